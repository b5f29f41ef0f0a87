use super::*;
use crate::Rng;
use crate::testing::for_each_seed;

fn fails(text: &str) -> (u32, ParseBackendsErrorKind) {
    let error = parse_backends(text).expect_err(text);
    (error.line().unwrap().get(), error.kind())
}

fn line(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

#[test]
fn reads_all_fields_in_any_order() {
    let text = "\u{feff}";
    assert_eq!(fails(text), (1, ParseBackendsErrorKind::Address), "a byte order mark is no space");
    let text = "# all\r\n  10.0.0.1:80\tname=a zone=z weight=3 priority=2 # tail\n\n[fd00::1]:81#tight\n10.0.0.2:80";
    let expected = [
        Backend::new("10.0.0.1:80".parse().unwrap())
            .with_name("a")
            .with_zone(Zone::new("z"))
            .with_weight(3)
            .with_priority(2),
        Backend::new("[fd00::1]:81".parse().unwrap()),
        Backend::new("10.0.0.2:80".parse().unwrap()),
    ];
    assert_eq!(parse_backends(text).unwrap(), expected);
    for empty in ["", "\n\n", "# nothing", "   \n\t# x\n"] {
        assert_eq!(parse_backends(empty).unwrap(), []);
    }
}

#[test]
fn names_the_line_and_what_is_wrong() {
    use ParseBackendsErrorKind::*;
    for (text, kind) in [
        ("10.0.0.1", Address),
        ("web:80", Address),
        ("10.0.0.1:65536", Address),
        ("fd00::1:80", Address),
        ("weight=1 10.0.0.1:80", Address),
        ("10.0.0.1:0", Port),
        ("[::1]:00 weight=2", Port),
        ("10.0.0.1:80 weight=0", Weight),
        ("10.0.0.1:80 weight=4294967296", Weight),
        ("10.0.0.1:80 weight=99999999999999999999999", Weight),
        ("10.0.0.1:80 weight=-1", Weight),
        ("10.0.0.1:80 weight=+1", Weight),
        ("10.0.0.1:80 weight=1.5", Weight),
        ("10.0.0.1:80 weight=", Weight),
        ("10.0.0.1:80 priority=256", Priority),
        ("10.0.0.1:80 priority=", Priority),
        ("10.0.0.1:80 zone=", EmptyName),
        ("10.0.0.1:80 name=", EmptyName),
        ("10.0.0.1:80 weigth=1", UnknownField),
        ("10.0.0.1:80 Weight=1", UnknownField),
        ("10.0.0.1:80 backup", UnknownField),
        ("10.0.0.1:80 weight=1 weight=1", RepeatedField),
        ("10.0.0.1:80 zone=a zone=b", RepeatedField),
    ] {
        assert_eq!(fails(text), (1, kind), "{text}");
        assert_eq!(fails(&format!("# fine\n10.0.0.9:9\n{text}\n10.0.0.8:9")), (3, kind), "{text}");
    }
    assert_eq!(fails("10.0.0.1:80\n\n10.0.0.1:80 name=b"), (3, DuplicateAddress(line(1))));
    assert_eq!(fails("10.0.0.1:80 name=a\n10.0.0.2:80 name=a"), (2, DuplicateName(line(1))));
    assert_eq!(fails("10.0.0.1:80\n10.0.0.2:80 name=10.0.0.1:80"), (2, DuplicateName(line(1))));
    let error = parse_backends("10.0.0.1:80 weight=0").unwrap_err();
    assert_eq!(error.to_string(), "line 1: the weight is not a number from 1 to 4294967295");
}

#[test]
fn reads_the_largest_numbers() {
    let backends = parse_backends("255.255.255.255:65535 weight=4294967295 priority=255").unwrap();
    assert_eq!((backends[0].weight(), backends[0].priority()), (u32::MAX, u8::MAX));
}

/// Random texts of the format's own pieces never panic, an error names a line of the text, and a list that was read
/// reads the same once written anew.
#[test]
fn survives_any_mixture_of_its_pieces() {
    let pieces = [
        "10.0.0.1:80",
        "[::1]:1",
        "10.0.0.2:80",
        " ",
        "\n",
        "\n",
        "#",
        "weight=",
        "priority=",
        "zone=",
        "name=",
        "0",
        "7",
        "99999999999",
        "=",
        "a",
        "\t",
        "\r",
        "é",
        "\0",
        " weight=2",
        " zone=b",
    ];
    for_each_seed(|seed| {
        let mut rng = Rng::new(seed);
        for _ in 0..2_000 {
            let count = rng.below(12);
            let pick = |_| pieces[usize::try_from(rng.below(pieces.len() as u64)).unwrap()];
            let text: String = (0..count).map(pick).collect();
            match parse_backends(&text) {
                Ok(backends) => {
                    let again = parse_backends(&text.lines().rev().collect::<Vec<_>>().join("\n")).unwrap();
                    assert_eq!(again.into_iter().rev().collect::<Vec<_>>(), backends, "{text:?}");
                }
                Err(error) => assert!(error.line().unwrap().get() as usize <= text.lines().count(), "{text:?}"),
            }
        }
    });
}
