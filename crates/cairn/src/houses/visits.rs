//! Where a tenant's visits by video are held.

use std::sync::Arc;

use exchange::{Telehealth, TelehealthPlace};
use ledger::TenantId;
use trust::Trust;

use super::Own;
use crate::server::ServerError;

/// The place of a tenant: its own, or the server's. That one is nobody's of one among several tenants: another
/// organisation's partner has no contract with this one.
fn place(
    servers: Option<&TelehealthPlace>,
    is_named: bool,
    own: &Own,
) -> Result<Option<TelehealthPlace>, ServerError> {
    let audience = own.telehealth_audience.clone();
    let given = (
        &own.telehealth_join_url,
        &own.telehealth_partner,
        &own.telehealth_secret_file,
    );
    match given {
        (Some(join_url), Some(partner), Some(path)) => {
            let secret = crate::config::secret("telehealth_secret_file", path);
            let secret = secret.map_err(|error| ServerError::Telehealth(error.to_string()))?;
            Ok(Some(TelehealthPlace {
                join_url: join_url.clone(),
                audience,
                partner: partner.clone(),
                secret,
            }))
        }
        (None, None, None) if audience.is_none() => {
            Ok(servers.filter(|_| !is_named).cloned())
        }
        _ => Err(ServerError::Telehealth(
            "telehealth_join_url, telehealth_partner and telehealth_secret_file go together, and telehealth_audience goes with them"
                .to_owned(),
        )),
    }
}

/// Lets people into a tenant's visits by video, where it holds any. `issuer` is the base of FHIR.
pub(super) async fn open(
    (trust, tenant): (&Trust, TenantId),
    (servers, before_ms): (Option<&TelehealthPlace>, u64),
    is_named: bool,
    own: &Own,
    issuer: &str,
) -> Result<Option<Arc<Telehealth>>, ServerError> {
    let Some(place) = place(servers, is_named, own)? else {
        return Ok(None);
    };
    let telehealth = Telehealth::new(trust.clone(), tenant, place, issuer, before_ms);
    let telehealth = telehealth.map_err(ServerError::Telehealth)?;
    telehealth.ready().await.map_err(ServerError::Trust)?;
    Ok(Some(Arc::new(telehealth)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_place_is_nobodys_of_one_among_several() {
        let servers = TelehealthPlace {
            join_url: "https://video.example.org/join".to_owned(),
            audience: None,
            partner: "video".to_owned(),
            secret: "a secret that nobody guesses".to_owned(),
        };
        let found = |is_named, own: &Own| {
            let found = place(Some(&servers), is_named, own);
            found.map(|found| found.map(|place| place.join_url))
        };
        let none = Own::default();
        let url = "https://video.example.org/join".to_owned();
        assert_eq!(found(false, &none).expect("a place"), Some(url));
        assert_eq!(found(true, &none).expect("none"), None);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        std::fs::write(&file, "another secret, of the north\n").expect("written");
        let own = Own {
            telehealth_join_url: Some("https://north.example/join".to_owned()),
            telehealth_partner: Some("video".to_owned()),
            telehealth_secret_file: Some(file),
            ..Own::default()
        };
        let url = "https://north.example/join".to_owned();
        assert_eq!(found(true, &own).expect("a place"), Some(url));
        let half = Own {
            telehealth_partner: None,
            ..own
        };
        assert!(found(true, &half).is_err());
        let alone = Own {
            telehealth_audience: Some("video".to_owned()),
            ..none
        };
        assert!(found(true, &alone).is_err());
    }
}
