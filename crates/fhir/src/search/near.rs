//! `near` of locations (R4, section 8.7.6.1): which lie within a distance of a point.
use super::number::number;
use super::query::{bad, split, unescape};
use super::unit::Canonical;
use crate::{IssueCode, OperationOutcome, Resource};
use serde_json::Value;

/// The distance where none is given, metres. R4 leaves it to the server; this is a town's.
const DEFAULT_M: f64 = 10_000.0;
/// The mean radius of the earth (IUGG), metres. The earth is no sphere, which is at most half a percent.
const RADIUS_M: f64 = 6_371_008.8;

/// A circle on the earth.
#[derive(Debug, Clone, Copy)]
pub struct Near {
    latitude: f64,
    longitude: f64,
    distance_m: f64,
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.bits() == other.bits()
    }
}

impl Eq for Near {}

impl Near {
    fn bits(&self) -> [u64; 3] {
        [self.latitude, self.longitude, self.distance_m].map(f64::to_bits)
    }

    /// `latitude|longitude[|distance[|unit]]`; kilometres without a unit.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, OperationOutcome> {
        let words = "is latitude|longitude|distance|unit, with degrees as decimals and a length in UCUM, such as 47.4|8.5|5|km";
        let wrong = || bad(IssueCode::Value, name, words);
        let parts: Vec<String> = split(text, '|').iter().map(|part| unescape(part)).collect();
        if !(2..=4).contains(&parts.len()) {
            return Err(wrong());
        }
        let decimal = |text: &str| {
            let text = text.trim_start_matches(' ');
            number(text).and_then(|_| text.parse::<f64>().ok())
        };
        let latitude = decimal(&parts[0]).filter(|degrees| degrees.abs() <= 90.0);
        let longitude = decimal(&parts[1]).filter(|degrees| degrees.abs() <= 180.0);
        let (Some(latitude), Some(longitude)) = (latitude, longitude) else {
            return Err(wrong());
        };
        let part = |place: usize| parts.get(place).filter(|part| !part.is_empty());
        let distance_m = match (part(2), part(3)) {
            (None, None) => DEFAULT_M,
            (None, Some(_)) => return Err(wrong()),
            (Some(distance), unit) => {
                let unit = unit.map_or("km", String::as_str);
                let canonical = Canonical::of(unit).filter(|canonical| canonical.unit == "m");
                let metres = (number(distance).zip(canonical))
                    .and_then(|(distance, canonical)| canonical.canonical(distance));
                let metres = metres.and_then(|metres| metres.to_string().parse::<f64>().ok());
                metres.filter(|metres| *metres >= 0.0).ok_or_else(wrong)?
            }
        };
        Ok(Self {
            latitude,
            longitude,
            distance_m,
        })
    }

    /// Whether a location lies within it.
    pub(super) fn has(&self, location: &Resource) -> bool {
        let degrees = |member: &str| location.at(&["position", member]).and_then(Value::as_f64);
        let (Some(latitude), Some(longitude)) = (degrees("latitude"), degrees("longitude")) else {
            return false;
        };
        self.distance_to_m(latitude, longitude) <= self.distance_m
    }

    /// By the haversine formula.
    fn distance_to_m(&self, latitude: f64, longitude: f64) -> f64 {
        let half = |a: f64, b: f64| ((a - b).to_radians() / 2.0).sin().powi(2);
        let across = self.latitude.to_radians().cos() * latitude.to_radians().cos();
        let square = half(latitude, self.latitude) + across * half(longitude, self.longitude);
        2.0 * RADIUS_M * square.sqrt().min(1.0).asin()
    }
}

/// Whether a location has a place, for `:missing`.
pub(super) fn is_placed(location: &Resource) -> bool {
    location.get("position").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ResourceType;
    use crate::search::SearchQuery;
    use serde_json::json;

    fn is_near(place: (f64, f64), value: &str) -> Result<bool, OperationOutcome> {
        let location = json!({"resourceType": "Location", "id": "l",
            "position": {"latitude": place.0, "longitude": place.1}});
        let asked = [("near".to_owned(), value.to_owned())];
        let query = SearchQuery::parse(ResourceType::Location, &asked, false)?;
        Ok(query.matches(&Resource::from_value(location).unwrap()))
    }

    #[test]
    fn distances_are_those_of_the_earth() {
        // Zürich and Bern are 95 km apart, London and Sydney 16,990 km.
        let (zurich, sydney) = ((47.3769, 8.5417), (-33.8688, 151.2093));
        for (place, value, near) in [
            (zurich, "46.948|7.4474|97|km", true),
            (zurich, "46.948|7.4474|94|km", false),
            (zurich, "46.948|7.4474|60|[mi_i]", true),
            (zurich, "46.948|7.4474|97000|m", true),
            (zurich, "46.948|7.4474|97", true),
            (zurich, "46.948|7.4474", false),
            (zurich, "47.38|8.54", true),
            (zurich, "46.948|7.4474|1,47.3|8.5|20|km", true),
            (sydney, "51.5074|-0.1278|17000|km", true),
            (sydney, "51.5074|-0.1278|16950|km", false),
            // Across the date line, and at a pole.
            ((0.0, 179.999), "0|-179.999|1|km", true),
            ((89.9999, 10.0), "89.9999|-170|1|km", true),
            ((0.0, 180.0), "0|0|20020|km", true),
            (zurich, "47.3769|8.5417|0", true),
        ] {
            assert_eq!(is_near(place, value).unwrap(), near, "{place:?} {value}");
        }
        for value in [
            "47.4",
            "47.4|8.5|x",
            "47.4|8.5|5|kg",
            "91|8|1|km",
            "47|181|1",
            "47|8||km",
            "47|8|-1|km",
            "47|8|1|km|x",
            "nan|8|1",
            "47|inf",
        ] {
            assert!(is_near(zurich, value).is_err(), "{value}");
        }
    }
}
