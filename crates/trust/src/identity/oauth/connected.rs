//! Systems that prove themselves by the certificate that they connect with (mutual TLS, RFC 8705), and tokens that
//! are good together with it alone.

use ledger::{Draft, TenantId};

use super::certificates::{Certificates, PeerCertificate, SubjectName};
use super::{AccessDocument, ClientProof, OauthError, SystemDocument, UNKNOWN};
use crate::identity::{Identity, sign_in};

/// A client that says who it is, and proves it by the certificate that it connected with.
#[derive(Debug, Clone, Copy)]
pub struct ConnectedClient<'a> {
    /// Its `client_id`.
    pub client: &'a str,
    /// The certificate, if there is one.
    pub certificate: Option<&'a PeerCertificate>,
    /// Whether the certificate leads to an authority that the server trusts for clients.
    pub is_trusted: bool,
}

/// How a system proves who it is.
#[derive(Debug, Clone, Copy)]
pub enum ShownSystem<'a> {
    /// By a signature (`private_key_jwt`).
    Signs(ClientProof<'a>),
    /// By its connection (`tls_client_auth`, `self_signed_tls_client_auth`).
    Connects(ConnectedClient<'a>),
}

impl<'a> From<ClientProof<'a>> for ShownSystem<'a> {
    fn from(proof: ClientProof<'a>) -> Self {
        Self::Signs(proof)
    }
}

impl<'a> From<ConnectedClient<'a>> for ShownSystem<'a> {
    fn from(client: ConnectedClient<'a>) -> Self {
        Self::Connects(client)
    }
}

/// A system that has proved who it is.
pub(super) struct Proven {
    pub(super) id: String,
    pub(super) system: SystemDocument,
    /// What has to be written so that the proof isn't shown twice.
    pub(super) once: Option<Draft>,
    /// The certificate that it proved itself by, to which its tokens are bound.
    pub(super) bound: Option<Bound>,
}

/// The certificate that a system proved itself by.
pub(super) struct Bound {
    pub(super) thumbprint: String,
    /// The name in it that the system is known by, if it is known by one.
    pub(super) name: Option<SubjectName>,
    pub(super) ends_ms: u64,
}

impl Identity {
    /// Whether a token is shown over a connection that it is good for: any, or that of its certificate, while its
    /// client is known by it.
    pub(super) fn holds(
        &self,
        access: &AccessDocument,
        system: &SystemDocument,
        shown: Option<&PeerCertificate>,
    ) -> bool {
        let Some(bound) = &access.bound else {
            return true;
        };
        let now_ms = self.now_ms();
        shown.is_some_and(|shown| {
            // Whom the certificate leads to was looked at when the token was given, minutes ago at most.
            let known = |one: &Certificates| one.prove(shown, true, now_ms).is_ok();
            shown.thumbprint() == bound && system.certificates_now(now_ms).any(known)
        })
    }

    /// Whether a token would open something for whoever has its certificate, as far as can be told without seeing it:
    /// its time is in the token's.
    pub(super) fn is_bound_yet(&self, access: &AccessDocument, system: &SystemDocument) -> bool {
        let Some(bound) = &access.bound else {
            return true;
        };
        let now_ms = self.now_ms();
        let name = access.bound_name.as_ref();
        let mut known = system.certificates_now(now_ms);
        known.any(|one| one.still_knows(bound, name, now_ms))
    }

    pub(super) async fn prove_system(
        &self,
        tenant: TenantId,
        shown: ShownSystem<'_>,
    ) -> Result<Proven, OauthError> {
        match shown {
            ShownSystem::Signs(proof) => {
                let (id, system, once) = self.prove(tenant, proof).await?;
                Ok(Proven {
                    id,
                    system,
                    once: Some(once),
                    bound: None,
                })
            }
            ShownSystem::Connects(client) => self.prove_connected(tenant, client).await,
        }
    }

    /// The system that the certificate of a connection proves.
    async fn prove_connected(
        &self,
        tenant: TenantId,
        shown: ConnectedClient<'_>,
    ) -> Result<Proven, OauthError> {
        let system = match fhir::is_id(shown.client) {
            true => self.with_a_key(tenant, shown.client).await?,
            false => None,
        };
        let Some(system) = system else {
            let stranger = sign_in::stranger(tenant);
            return self.refuse_client(&stranger, UNKNOWN).await;
        };
        let agent = self.agent_of(tenant, shown.client, &system, None);
        if !system.is_active() {
            return self.refuse_client(&agent, UNKNOWN).await;
        }
        let now_ms = self.now_ms();
        if system.certificates_now(now_ms).next().is_none() {
            let words = "this client has no certificate: send a client_assertion (private_key_jwt)";
            return self.refuse_client(&agent, words).await;
        }
        let Some(certificate) = shown.certificate else {
            let words =
                "the connection has no certificate of a client, by which this client proves itself";
            return self.refuse_client(&agent, words).await;
        };
        let mut refusal = UNKNOWN;
        let mut proves = None;
        // The last that is told is what is wrong by the first of them.
        let known: Vec<&Certificates> = system.certificates_now(now_ms).collect();
        for known in known.into_iter().rev() {
            match known.prove(certificate, shown.is_trusted, now_ms) {
                Ok(()) => proves = Some(known.name().cloned()),
                Err(words) => refusal = words,
            }
        }
        match proves {
            None => self.refuse_client(&agent, refusal).await,
            Some(name) => Ok(Proven {
                id: shown.client.to_owned(),
                system,
                once: None,
                bound: Some(Bound {
                    thumbprint: certificate.thumbprint().to_owned(),
                    name,
                    ends_ms: certificate.ends_ms(),
                }),
            }),
        }
    }
}
