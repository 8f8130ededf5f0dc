use std::collections::BTreeSet;

use super::super::pack::{self, PICTURE_BYTES, SIDE, Sticker};
use super::*;

const STYLES: [&str; 2] = ["3d", "flat"];
/// Name, group, subgroup and colour of the concepts.
const CONCEPTS: [(&str, &str, &str, [u8; 3]); 5] = [
    ("red apple", "food-drink", "food-fruit", [250, 0, 0]),
    ("fox", "animals-nature", "animal-mammal", [0, 250, 0]),
    ("waving hand", "people-body", "hand-fingers-open", [0, 0, 250]),
    ("salt and pepper", "food-drink", "prepared-food", [0, 250, 250]),
    ("ghost", "smileys-emotion", "face-costume", [250, 0, 250]),
];

/// A disk of the concept's colour for each concept and style; the ghost is held out.
fn data() -> Stickers {
    packed(|concept| concept == 4)
}

fn packed(held_out: impl Fn(usize) -> bool) -> Stickers {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p");
    let concept = |(name, group, subgroup, _): &(&str, &str, &str, _)| Concept {
        name: (*name).into(),
        keywords: vec!["thing".into()],
        group: (*group).into(),
        subgroup: (*subgroup).into(),
    };
    let concepts: Vec<Concept> = CONCEPTS.iter().map(concept).collect();
    let sticker = |i: usize| Sticker {
        rgba: disk(CONCEPTS[i / 2].3),
        style: (i % 2) as u8,
        concept: (i / 2) as u32,
        held_out: held_out(i / 2),
        weight: 1.0,
    };
    let stickers: Vec<Sticker> = (0..10).map(sticker).collect();
    pack::write(&path, &STYLES, &concepts, &stickers, &[]).unwrap();
    Stickers::open(&path).unwrap()
}

fn disk([r, g, b]: [u8; 3]) -> Vec<u8> {
    let pixel = |i: usize| {
        let away = |v: usize| (v as f32 - 31.5).powi(2);
        [r, g, b, if away(i % SIDE) + away(i / SIDE) < 900.0 { 255 } else { 0 }]
    };
    (0..PICTURE_BYTES / 4).flat_map(pixel).collect()
}

fn units(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn scenes(data: &Stickers, count: usize) -> Vec<Scene> {
    let (sources, mut unit) = (Sources::new(data).unwrap(), units(7));
    (0..count).map(|_| Scene::draw(&sources, data, &mut unit)).collect()
}

/// The colour at a place of a picture, from 0 to 255.
fn at(picture: &[f32], x: usize, y: usize) -> [u8; 3] {
    [0, 1, 2].map(|c| ((picture[(c * SIDE + y) * SIDE + x] + 1.0) * 127.5).round() as u8)
}

#[test]
fn left_is_left_and_named_so() {
    let data = data();
    let pairs: Vec<Scene> = scenes(&data, 2000).into_iter().filter(|s| s.left_right(&data).is_some()).collect();
    assert!(pairs.len() > 500);
    for scene in pairs {
        let [left, right] = scene.left_right(&data).unwrap();
        let picture = scene.render(&data);
        assert_eq!([at(&picture, 16, 32), at(&picture, 48, 32)], [CONCEPTS[left].3, CONCEPTS[right].3]);
        let corner = scene.background().map_or(WHITE, |name| PALETTE[palette(name).unwrap()].1);
        assert_eq!([at(&picture, 0, 0), at(&picture, 32, 60)], [corner; 2]);
        let (left, right) = (CONCEPTS[left].0, CONCEPTS[right].0);
        for caption in scene.captions(&data) {
            let swapped = caption.contains("to the right of");
            assert_eq!(caption.find(left) < caption.find(right), !swapped, "{caption}");
            assert_eq!(
                caption.contains("left"),
                caption.contains("to the left of") || caption.contains("on the left and")
            );
        }
    }
}

#[test]
fn captions_of_pairs_are_as_wanted() {
    let data = data();
    let captions = Scene::pair(&data, 2, 0, None).unwrap().captions(&data);
    for wanted in [
        "fox and red apple",
        "a fox and a red apple",
        "a fox next to a red apple",
        "fox to the left of red apple",
        "a red apple to the right of a fox",
        "a fox on the left and a red apple on the right",
        "a fox and a red apple, 3d style",
    ] {
        assert!(captions.contains(&wanted.to_owned()), "{wanted} is not in {captions:?}");
    }
    let flat = Scene::pair(&data, 3, 1, Some("orange")).unwrap().captions(&data);
    assert!(flat.contains(&"a flat fox and a flat red apple on an orange background".to_owned()));
    assert!(flat.iter().all(|c| c.contains("flat") && c.contains("on an orange background")));
}

#[test]
fn what_can_be_said_is_listed() {
    let data = data();
    let sources = Sources::new(&data).unwrap();
    for seed in 0..40 {
        let scene = Scene::draw(&sources, &data, &mut units(seed));
        let mut unit = units(99);
        let said: BTreeSet<String> = (0..4000).map(|_| scene.caption(&data, &mut unit)).collect();
        let listed = scene.captions(&data);
        assert_eq!(said, listed.iter().cloned().collect());
        assert_eq!(said.len(), listed.len(), "a caption is listed twice");
        let unstyled = listed.iter().any(|c| !STYLES.iter().any(|s| c.split([' ', ',']).any(|w| w == *s)));
        assert_eq!(unstyled, scene.style(&data) == 0);
    }
}

#[test]
fn a_tint_replaces_colour_and_colour_word() {
    let data = data();
    let scene = Scene::tinted(&data, 0, "blue", Some("yellow")).unwrap();
    assert_eq!((scene.kind(), scene.colour(), scene.background()), (Kind::TintedBacked, Some("blue"), Some("yellow")));
    let picture = scene.render(&data);
    assert_eq!(at(&picture, 32, 32), TINTS[4].colour);
    assert_eq!(at(&picture, 0, 0), PALETTE[5].1);
    let captions = scene.captions(&data);
    assert!(captions.contains(&"a blue apple on a yellow background".to_owned()), "{captions:?}");
    assert!(captions.iter().all(|c| c.contains("blue apple") && !c.contains("red") && !c.contains("thing")));
}

#[test]
fn only_what_makes_sense_is_drawn() {
    let data = data();
    let mut seen = BTreeSet::new();
    for scene in scenes(&data, 5000) {
        seen.insert(scene.kind());
        let concepts: Vec<usize> =
            scene.concept(&data).into_iter().chain(scene.left_right(&data).into_iter().flatten()).collect();
        assert!(!concepts.contains(&4), "a held-out picture was drawn");
        match scene.kind() {
            Kind::Backed => assert!(scene.background().is_some()),
            Kind::Tinted => assert_ne!(concepts[0], 2, "a hand was tinted"),
            Kind::TintedBacked => assert_ne!(scene.colour(), scene.background()),
            Kind::Pair | Kind::PairBacked => {
                assert!(concepts[0] != concepts[1] && !concepts.contains(&3), "{concepts:?}");
            }
        }
    }
    assert_eq!(seen.len(), Kind::SHARES.len());
}

#[test]
fn shares_are_as_stated() {
    let data = data();
    let scenes = scenes(&data, 20_000);
    let share = |of: &dyn Fn(&Scene) -> bool| scenes.iter().filter(|s| of(s)).count() as f64 / scenes.len() as f64;
    for (kind, wanted) in Kind::SHARES {
        assert!((share(&|s| s.kind() == kind) - wanted).abs() < 0.02, "{kind:?}");
    }
    assert!((share(&|s| s.style(&data) == 0) - 0.5).abs() < 0.02);
}

#[test]
fn the_same_numbers_give_the_same_scene() {
    let data = data();
    let sources = Sources::new(&data).unwrap();
    let once = |seed| {
        let mut unit = units(seed);
        let scene = Scene::draw(&sources, &data, &mut unit);
        (scene.render(&data), scene.caption(&data, &mut unit))
    };
    assert!((0..50).all(|seed| once(seed) == once(seed)));
    assert!((0..50).any(|seed| once(seed) != once(0)));
    for extreme in [0.0, 1.0 - f64::EPSILON] {
        let scene = Scene::draw(&sources, &data, &mut || extreme);
        assert!(scene.render(&data).iter().all(|v| (-1.001..1.001).contains(v)));
    }
}

#[test]
fn what_is_not_exact_is_refused() {
    let data = data();
    let refused = |scene: Result<Scene>| format!("{:#}", scene.expect_err("a scene that should not be"));
    assert!(refused(Scene::backed(&data, 8, "red")).contains("picture 8 is held out"));
    assert!(refused(Scene::backed(&data, 0, "mauve")).contains("no background is called \"mauve\""));
    assert!(refused(Scene::tinted(&data, 4, "red", None)).contains("\"waving hand\" is not made red"));
    assert!(refused(Scene::tinted(&data, 0, "teal", None)).contains("no tint is called \"teal\""));
    assert!(refused(Scene::pair(&data, 0, 6, None)).contains("the name \"salt and pepper\""));
    assert!(refused(Scene::pair(&data, 0, 3, None)).contains("different styles"));
    assert!(refused(Scene::pair(&data, 0, 0, None)).contains("one concept"));
    assert!(refused(Scene::pair(&data, 0, 99, None)).contains("there is no picture 99"));
    let sources = Sources::new(&data).unwrap();
    assert_eq!([sources.picture(&data, 1, 1), sources.picture(&data, 4, 0)], [Some(3), None]);
}

#[test]
fn tints_are_seen_on_what_is_behind() {
    let mut unit = units(3);
    for tint in (0..TINTS.len()).flat_map(|t| [t; 200]) {
        let (name, colour) = PALETTE[behind(tint, &mut unit)];
        assert!(name != TINTS[tint].name && distance(colour, TINTS[tint].colour) > CONTRAST, "{name}");
    }
}

#[test]
fn data_without_a_picture_to_train_on_is_refused() {
    let error = Sources::new(&packed(|_| true)).err().unwrap().to_string();
    assert!(error.contains("no picture of the data may be trained on"), "{error}");
}

#[test]
fn every_word_of_a_caption_is_among_what_is_said() {
    let data = data();
    let split = |text: &str| text.split([' ', ',']).map(str::to_owned).collect::<Vec<_>>();
    let said: BTreeSet<String> = super::super::said::texts(&data).iter().flat_map(|t| split(t)).collect();
    let mut unit = units(11);
    for scene in scenes(&data, 3000) {
        let caption = scene.caption(&data, &mut unit);
        let unknown: Vec<String> = split(&caption).into_iter().filter(|w| !said.contains(w)).collect();
        assert!(unknown.is_empty(), "{caption}: {unknown:?}");
    }
    assert!(!said.contains("zebra"));
}
