//! What lets somebody into a visit by video: claims that are signed by the organisation's own keys, as a JWT of a type of
//! its own, so that nobody can take it for an identity token, nor one of those for it (RFC 8725, section 3.11).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use ledger::TenantId;
use serde_json::Value;

use super::signing::ALGORITHM;
use crate::TrustError;
use crate::identity::Identity;

/// The `typ` of such a JWT.
pub const VISIT_TOKEN_TYPE: &str = "visit+jwt";
/// The longest that is looked at: one has some six hundred.
const BYTES_MAX: usize = 4096;

impl Identity {
    /// Sees to it that there is a key, so that whoever checks tokens knows it before the first comes.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn ready_to_sign(&self, tenant: TenantId) -> Result<(), TrustError> {
        self.ensure_signing_key(tenant).await
    }

    /// Claims of a visit, signed.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn sign_visit(&self, tenant: TenantId, claims: &Value) -> Result<String, TrustError> {
        self.signed(tenant, VISIT_TOKEN_TYPE, claims).await
    }

    /// The claims of what was signed so, by a key that is still shown; nothing of anything else. Whose they are, for whom
    /// and until when is for the caller to look at.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn signed_visit(
        &self,
        tenant: TenantId,
        token: &str,
    ) -> Result<Option<Value>, TrustError> {
        let Some(header) = header(token) else {
            return Ok(None);
        };
        let is = |name: &str, expected: &str| header[name].as_str() == Some(expected);
        if !is("alg", ALGORITHM) || !is("typ", VISIT_TOKEN_TYPE) || header.get("crit").is_some() {
            return Ok(None);
        }
        let id = header["kid"].as_str().unwrap_or_default();
        let Some(key) = self.checks(tenant, id).await? else {
            return Ok(None);
        };
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let checked = jsonwebtoken::decode::<Value>(token, &key, &validation);
        Ok(checked.ok().map(|checked| checked.claims))
    }
}

fn header(token: &str) -> Option<Value> {
    if token.len() > BYTES_MAX {
        return None;
    }
    let text = token.split('.').next()?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::tests::{House, OTHER, TENANT};

    #[tokio::test]
    async fn what_is_signed_for_something_else_lets_nobody_in() {
        let house = House::new().await;
        let identity = house.trust.identity();
        let claims = json!({"iss": "https://cairn.example", "jti": "a.b", "role": "host"});
        let good = identity.sign_visit(TENANT, &claims).await.unwrap();
        let found = identity.signed_visit(TENANT, &good).await.unwrap();
        assert_eq!(found, Some(claims.clone()));
        // The same claims by the same key, but of another type: an identity token, and what nobody has thought of yet.
        for kind in ["JWT", "at+jwt", "", "visit", "VISIT+JWT"] {
            let other = identity.signed(TENANT, kind, &claims).await.unwrap();
            let found = identity.signed_visit(TENANT, &other).await.unwrap();
            assert_eq!(found, None, "{kind}");
        }
        // Another organisation has other keys.
        identity.ready_to_sign(OTHER).await.unwrap();
        assert_eq!(identity.signed_visit(OTHER, &good).await.unwrap(), None);
    }
}
