//! Rust text without what is not code.

/// The text with comments and the insides of literals replaced by spaces, line by line as before: what remains are the
/// words that the compiler acts on.
pub(crate) fn code_only(text: &str) -> String {
    let mut scanner = Scanner { rest: text, code: String::with_capacity(text.len()) };
    while let Some(next) = scanner.rest.chars().next() {
        let rest = scanner.rest;
        let length = match next {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            '\'' => char_literal(rest).unwrap_or(0),
            'r' | 'b' | 'c' if !scanner.is_in_word() => raw_string(rest).unwrap_or(0),
            _ => 0,
        };
        if length == 0 { scanner.keep(next) } else { scanner.blank(length) }
    }
    scanner.code
}

struct Scanner<'a> {
    rest: &'a str,
    code: String,
}

impl Scanner<'_> {
    fn is_in_word(&self) -> bool {
        self.code.ends_with(|last: char| last.is_alphanumeric() || last == '_')
    }

    fn keep(&mut self, next: char) {
        self.code.push(next);
        self.rest = &self.rest[next.len_utf8()..];
    }

    fn blank(&mut self, length: usize) {
        let (blanked, rest) = self.rest.split_at(length);
        self.code.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        self.rest = rest;
    }
}

/// The length of a block comment, nested ones included.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// The length of a string literal with its quotes.
fn string(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; `None` if the quote begins a lifetime.
fn char_literal(text: &str) -> Option<usize> {
    let inside = &text[1..];
    if inside.starts_with('\\') {
        // The character after the backslash may be a quote itself.
        let escaped = inside.chars().nth(1)?.len_utf8();
        return inside[1 + escaped..].find('\'').map(|end| end + escaped + 3);
    }
    let length = inside.chars().next()?.len_utf8();
    inside[length..].starts_with('\'').then_some(length + 2)
}

/// The length of a raw string literal, of bytes or for C as well; `None` if these letters begin something else.
fn raw_string(text: &str) -> Option<usize> {
    let marked = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('r')?;
    let quoted = marked.trim_start_matches('#');
    let hashes = &marked[..marked.len() - quoted.len()];
    let inside = quoted.strip_prefix('"')?;
    let closing = format!("\"{hashes}");
    let end = inside.find(&closing).map_or(inside.len(), |end| end + closing.len());
    Some(text.len() - inside.len() + end)
}

#[test]
fn keeps_code_and_lines_and_blanks_the_rest() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("a /* b\n*/ c", "a     \n   c"),
        (r#"x("a\"b", c)"#, "x(      , c)"),
        (r###"x(r#"a"b"#, c)"###, "x(        , c)"),
        (r#"x(br"\", c)"#, "x(     , c)"),
        (r#"x(b"a")"#, "x(b   )"),
        ("x('\"', \"'\", c)", "x(   ,    , c)"),
        (r"x('\'', c)", "x(    , c)"),
        (r"x('\u{1f600}', c)", "x(           , c)"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("r#type + car", "r#type + car"),
        ("x('ä', c)", "x(   , c)"),
        ("\"open", "     "),
        ("/* open", "       "),
    ] {
        assert_eq!(code_only(text), code, "{text}");
    }
}
