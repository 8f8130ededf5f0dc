//! How often a picture is drawn: dull families of near-equal pictures stand back, the look that is shipped stands forward.

use super::names::is_toned;
use super::pack::Concept;
use super::style::Style;

/// Sampling weight of a picture: 1, twice that for Fluent 3D, a quarter of it for [dull](is_dull) concepts.
pub fn weight(style: Style, concept: &Concept, code: &str) -> f32 {
    let style = if style == Style::Fluent3d { 2.0 } else { 1.0 };
    if is_dull(concept, code) { style * 0.25 } else { style }
}

/// People in variants (by gender, family or skin tone), clock faces, buttons, signs in boxes, letters, arrows, plain squares and circles.
fn is_dull(concept: &Concept, code: &str) -> bool {
    is_toned(code) || is_people_variant(concept, code) || is_clock_face(&concept.name) || is_sign(concept)
}

fn is_people_variant(concept: &Concept, code: &str) -> bool {
    let gendered = ["1f468-200d-", "1f469-200d-"].iter().any(|p| code.starts_with(p))
        || ["-2640", "-2642"].iter().any(|s| code.contains(s));
    concept.group == "people-body" && (gendered || concept.subgroup == "family")
}

/// "three o'clock", "three-thirty"; not the alarm clock.
fn is_clock_face(name: &str) -> bool {
    name.ends_with(" o'clock") || name.ends_with("-thirty")
}

fn is_sign(concept: &Concept) -> bool {
    const DULL: [&str; 8] =
        ["arrow", "av-symbol", "keycap", "alphanum", "geometric", "zodiac", "religion", "transport-sign"];
    DULL.contains(&concept.subgroup.as_str()) || (concept.group == "symbols" && concept.name.ends_with(" button"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concept(name: &str, group: &str, subgroup: &str) -> Concept {
        Concept { name: name.into(), group: group.into(), subgroup: subgroup.into(), ..Concept::default() }
    }

    #[test]
    fn dull_families_stand_back() {
        let cases = [
            ("fox", "animals-nature", "animal-mammal", "1f98a", 1.0),
            ("alarm clock", "travel-places", "time", "23f0", 1.0),
            ("three o'clock", "travel-places", "time", "1f552", 0.25),
            ("twelve-thirty", "travel-places", "time", "1f567", 0.25),
            ("astronaut", "people-body", "person-role", "1f9d1-200d-1f680", 1.0),
            ("woman astronaut", "people-body", "person-role", "1f469-200d-1f680", 0.25),
            ("man running", "people-body", "person-activity", "1f3c3-200d-2642", 0.25),
            ("family", "people-body", "family", "1f46a", 0.25),
            ("waving hand: dark skin tone", "people-body", "hand-fingers-open", "1f44b-1f3ff", 0.25),
            ("up arrow", "symbols", "arrow", "2b06", 0.25),
            ("red circle", "symbols", "geometric", "1f534", 0.25),
            ("check mark button", "symbols", "other-symbol", "2705", 0.25),
            ("red heart", "smileys-emotion", "heart", "2764", 1.0),
        ];
        for (name, group, subgroup, code, wanted) in cases {
            assert_eq!(weight(Style::Noto, &concept(name, group, subgroup), code), wanted, "{name}");
            assert_eq!(weight(Style::Fluent3d, &concept(name, group, subgroup), code), 2.0 * wanted, "{name}");
        }
    }
}
