//! What the names of concepts say of people: whose gender, and which skin.

use std::collections::BTreeSet;

/// Genders that names tell; "neither" is what a name does not say.
pub const GENDERS: [&str; 3] = ["man", "woman", "neither"];
/// Of [`GENDERS`].
pub const NEITHER: usize = 2;
/// The yellow of emoji, and the five groups of Fitzpatrick's scale that Unicode has.
pub const TONES: [&str; 6] = ["yellow", "light", "medium-light", "medium", "medium-dark", "dark"];

/// The subject and the gender of a name, if man, woman and neither are drawn of the subject: ("cook", 0) for "man cook". The subject of "man", "woman" and "person" is "".
pub fn gender<'a>(name: &'a str, names: &BTreeSet<&str>) -> Option<(&'a str, usize)> {
    let of = |who: &str| name.strip_prefix(who).filter(|rest| rest.is_empty() || rest.starts_with(' '));
    let (subject, class) = match (of("man"), of("woman"), of("person")) {
        (Some(subject), _, _) => (subject.trim_start(), 0),
        (_, Some(subject), _) => (subject.trim_start(), 1),
        (_, _, Some(subject)) => (subject.trim_start(), NEITHER),
        _ => (name, NEITHER),
    };
    let gendered = ["man", "woman"].iter().all(|who| names.contains(with(who, subject).as_str()));
    (gendered && neutral(subject, names).is_some()).then_some((subject, class))
}

/// The name that says no gender of a subject: "person running", "cook".
pub fn neutral<'a>(subject: &str, names: &BTreeSet<&'a str>) -> Option<&'a str> {
    let spelt = [with("person", subject), subject.to_owned()];
    spelt.iter().filter(|name| !name.is_empty()).find_map(|name| names.get(name.as_str()).copied())
}

fn with(who: &str, subject: &str) -> String {
    if subject.is_empty() { who.to_owned() } else { format!("{who} {subject}") }
}

/// "waving hand" and the index of "light" for "waving hand: light skin tone"; nothing for two tones at once.
pub fn tone(name: &str) -> Option<(&str, usize)> {
    let (subject, tone) = name.split_once(": ")?;
    let tone = tone.strip_suffix(" skin tone")?;
    Some((subject, TONES.iter().position(|t| *t == tone)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn genders_need_all_three() {
        let names = BTreeSet::from([
            "man cook",
            "woman cook",
            "cook",
            "man running",
            "woman running",
            "person running",
            "woman dancing",
            "man",
            "woman",
            "person",
            "manatee",
        ]);
        let cases = [
            ("man cook", Some(("cook", 0))),
            ("cook", Some(("cook", NEITHER))),
            ("woman running", Some(("running", 1))),
            ("person running", Some(("running", NEITHER))),
            ("running", Some(("running", NEITHER))),
            ("woman", Some(("", 1))),
            ("person", Some(("", NEITHER))),
            ("woman dancing", None),
            ("manatee", None),
        ];
        for (name, wanted) in cases {
            assert_eq!(gender(name, &names), wanted, "{name}");
        }
        assert_eq!(neutral("running", &names), Some("person running"));
        assert_eq!(neutral("cook", &names), Some("cook"));
        assert_eq!(neutral("", &names), Some("person"));
        assert_eq!(neutral("dancing", &names), None);
    }

    #[test]
    fn tones_are_named() {
        assert_eq!(tone("waving hand: medium-dark skin tone"), Some(("waving hand", 4)));
        assert_eq!(tone("kiss: man, man, light skin tone, dark skin tone"), None);
        assert_eq!(tone("keycap: 1"), None);
        assert_eq!(tone("waving hand"), None);
    }
}
