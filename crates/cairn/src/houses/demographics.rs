//! Demographics of a house.

use std::sync::Arc;

use spine::demographics::Demographics;

use super::own::Own;
use crate::config::DemographicsSettings;
use crate::http::DemographicsService;
use crate::server::ServerError;

/// What a tenant's routes begin with, and what is behind them.
pub(super) fn open(
    (trust, record): (&trust::Trust, &record::Record),
    settings: &DemographicsSettings,
    own: &Own,
    base_url: &str,
) -> Result<(String, Arc<DemographicsService>), ServerError> {
    let settings = own.demographics(settings.clone());
    settings.check().map_err(ServerError::Demographics)?;
    let rules = settings.rules().map_err(ServerError::Demographics)?;
    let base = format!("{base_url}{}", settings.base);
    let demographics = settings
        .serve
        .then(|| Demographics::new(trust.clone(), record.clone(), rules.clone(), &base));
    let service = DemographicsService::new(demographics, rules, settings.per_second);
    Ok((settings.base, Arc::new(service)))
}
