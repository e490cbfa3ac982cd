//! A small line chart of body weight, with the table beneath for those who can't see it.
//!
//! Bars of this system start at zero. This line does not, on purpose: the rise that matters is 2 kg
//! on 80, which a baseline at zero would flatten into nothing. The scale is written at its ends.

use fhir::Resource;
use maud::{Markup, html};
use serde_json::Value;
use trust::conventions::{BODY_WEIGHT, LOINC};

use crate::time::{DAY_MS, Times, fhir_time};

/// Days shown.
const DAYS: i64 = 45;
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 76.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 26.0;
/// A rise of more than this (kg) within [`RISE_DAYS`] is marked, as the heart-failure pathway does.
const RISE_KG: f64 = 2.0;
const RISE_DAYS: i64 = 3;

/// A weight: when, kilograms.
pub(crate) type Weight = (i64, f64);

/// The weights among observations, oldest first, of the last days before the newest.
pub(crate) fn weights(times: &Times, observations: &[&Resource]) -> Vec<Weight> {
    let mut weights: Vec<Weight> = observations
        .iter()
        .filter(|observation| {
            observation
                .at(&["code", "coding"])
                .and_then(Value::as_array)
                .is_some_and(|codings| {
                    codings
                        .iter()
                        .any(|coding| coding["system"] == LOINC && coding["code"] == BODY_WEIGHT)
                })
        })
        .filter_map(|observation| {
            let quantity = observation.get("valueQuantity")?;
            let unit = quantity["code"]
                .as_str()
                .or_else(|| quantity["unit"].as_str())?;
            let kg = quantity["value"].as_f64()?
                * match unit {
                    "kg" => 1.0,
                    "g" => 0.001,
                    "[lb_av]" | "lb" | "lbs" => 0.453_592_37,
                    _ => return None,
                };
            let (at_ms, ..) = fhir_time(times, observation.text_at(&["effectiveDateTime"])?)?;
            Some((at_ms, kg))
        })
        .collect();
    weights.sort_by_key(|(at_ms, _)| *at_ms);
    if let Some((newest, _)) = weights.last().copied() {
        weights.retain(|(at_ms, _)| newest - at_ms <= DAYS * DAY_MS);
    }
    weights
}

/// Whether a weight lies more than [`RISE_KG`] above one of the days before.
fn rose(weights: &[Weight], place: usize) -> bool {
    let (at_ms, kg) = weights[place];
    weights[..place]
        .iter()
        .any(|(earlier, before)| at_ms - earlier <= RISE_DAYS * DAY_MS && kg - before > RISE_KG)
}

/// The chart; nothing for fewer than two weights.
#[allow(clippy::cast_precision_loss, reason = "pixels")]
pub(crate) fn draw(times: &Times, weights: &[Weight]) -> Option<Markup> {
    let ((first_ms, _), (last_ms, last_kg)) = (*weights.first()?, *weights.last()?);
    if weights.len() < 2 || last_ms <= first_ms {
        return None;
    }
    let low = (weights.iter().map(|(_, kg)| *kg).fold(f64::MAX, f64::min) - 0.5).floor();
    let high = (weights.iter().map(|(_, kg)| *kg).fold(f64::MIN, f64::max) + 0.5).ceil();
    let x = |ms: i64| {
        LEFT + (ms - first_ms) as f64 / (last_ms - first_ms) as f64 * (WIDTH - LEFT - RIGHT)
    };
    let y = |kg: f64| TOP + (high - kg) / (high - low) * (HEIGHT - TOP - BOTTOM);
    let line: Vec<String> = weights
        .iter()
        .map(|(ms, kg)| format!("{:.1},{:.1}", x(*ms), y(*kg)))
        .collect();
    let alarms = (0..weights.len())
        .filter(|place| rose(weights, *place))
        .count();
    Some(html! {
        figure {
            svg class="chart" width=(WIDTH) height=(HEIGHT) role="img" aria-label={ "Weight from " (times.date(first_ms)) " to " (times.date(last_ms)) ", last " (format!("{last_kg:.1}")) " kilograms. All values are in the table below." } viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } {
                line class="axis" x1=(LEFT) y1=(y(high)) x2=(WIDTH - RIGHT) y2=(y(high)) {}
                line class="axis" x1=(LEFT) y1=(y(low)) x2=(WIDTH - RIGHT) y2=(y(low)) {}
                text class="quiet" x=(LEFT - 8.0) y=(y(high) + 4.0) text-anchor="end" { (high) " kg" }
                text class="quiet" x=(LEFT - 8.0) y=(y(low) + 4.0) text-anchor="end" { (low) " kg" }
                text class="quiet" x=(LEFT) y=(HEIGHT - 6.0) { (times.date(first_ms)) }
                text class="quiet" x=(WIDTH - RIGHT) y=(HEIGHT - 6.0) text-anchor="end" { (times.date(last_ms)) }
                polyline class="curve" points=(line.join(" ")) {}
                @for (place, (ms, kg)) in weights.iter().enumerate() {
                    @if rose(weights, place) { path class="point alarm" d={ "M" (format!("{:.1} {:.1}", x(*ms), y(*kg) - 6.0)) " l6 6 l-6 6 l-6 -6 z" } {} }
                    @else { circle class="point" cx=(format!("{:.1}", x(*ms))) cy=(format!("{:.1}", y(*kg))) r="2.5" {} }
                }
                text x=(format!("{:.1}", x(last_ms) + 8.0)) y=(format!("{:.1}", y(last_kg) + 4.0)) { (format!("{last_kg:.1} kg")) }
            }
            @if alarms > 0 { figcaption class="small quiet" { "◆ more than 2 kg above a weight of the 3 days before" } }
            details id="weight-table" {
                summary class="small" { "The weights as a table" }
                table {
                    thead { tr { th scope="col" { "When" } th scope="col" class="number" { "kg" } th scope="col" { "" span class="visually-hidden" { "Remark" } } } }
                    tbody {
                        @for (place, (ms, kg)) in weights.iter().enumerate().rev() {
                            tr { td { (times.exact(*ms)) } td class="number" { (format!("{kg:.1}")) } td { @if rose(weights, place) { "rose by more than 2 kg in 3 days" } } }
                        }
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn weights_are_read_and_rises_marked() {
        let times = Times {
            care_ms: 0,
            wall_ms: 0,
            zone: jiff::tz::TimeZone::UTC,
        };
        let observation = |at: &str, value: f64, unit: &str| {
            Resource::from_value(json!({ "resourceType": "Observation", "code": { "coding": [{ "system": LOINC, "code": BODY_WEIGHT }] }, "effectiveDateTime": at, "valueQuantity": { "value": value, "unit": unit, "code": unit } })).unwrap()
        };
        let all = [
            observation("2026-03-04T08:00:00Z", 83.5, "kg"),
            observation("2026-03-01T08:00:00Z", 80.0, "kg"),
            observation("2026-03-02T08:00:00Z", 81.0, "kg"),
            observation("2025-03-01T08:00:00Z", 70.0, "kg"),
            observation("2026-03-03T08:00:00Z", 10.0, "stone"),
        ];
        let weights = weights(&times, &all.iter().collect::<Vec<_>>());
        assert_eq!(
            weights.iter().map(|(_, kg)| *kg).collect::<Vec<_>>(),
            [80.0, 81.0, 83.5]
        );
        assert!(!rose(&weights, 1) && rose(&weights, 2));
        let drawn = draw(&times, &weights).unwrap().into_string();
        assert!(
            drawn.contains("83.5 kg") && drawn.contains("point alarm") && !drawn.contains("style=")
        );
        assert!(draw(&times, &weights[..1]).is_none());
    }
}
