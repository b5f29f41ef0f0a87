//! The head of a request as the backend sees it: framed anew, without what concerned the client's connection only.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{Request, StatusCode, Uri, Version, request::Parts};

use super::head::is_old_hop;

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// There is none.
    None,
    Length(u64),
    Chunked,
}

/// What the proxy says of itself and of the client in each request; whole field lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Additions {
    lines: Vec<u8>,
    /// Whether the lines say how the client came, so that it cannot.
    says_proto: bool,
}

impl Additions {
    /// RFC 9110 section 7.6.3 for `Via`; `X-Forwarded-For` and `X-Forwarded-Proto` have no standard, only users.
    pub(crate) fn new(client: std::net::IpAddr, forwarded: bool, via: Option<Version>) -> Self {
        let mut lines = String::new();
        if forwarded {
            lines.push_str(&format!("x-forwarded-for: {}\r\nx-forwarded-proto: http\r\n", client.to_canonical()));
        }
        match via {
            Some(Version::HTTP_2) => lines.push_str("via: 2 tenfold\r\n"),
            Some(_) => lines.push_str("via: 1.1 tenfold\r\n"),
            None => {}
        }
        Self { lines: lines.into_bytes(), says_proto: forwarded }
    }
}

/// What the client's head asks of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// The body is sent once the backend says so (`Expect: 100-continue`).
    pub(crate) waits: bool,
    /// The connection becomes something else (`Upgrade`).
    pub(crate) upgrade: bool,
}

/// Writes the head of the request. An error is the status that refuses it.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    parts: &Parts,
    body: BodyFraming,
    additions: &Additions,
) -> Result<Wishes, StatusCode> {
    let listed = listed(&parts.headers)?;
    let mut wishes = Wishes::default();
    check_codings(&parts.headers)?;
    request_line(out, parts);
    out.extend_from_slice(b"host: ");
    out.extend_from_slice(authority(parts)?);
    out.extend_from_slice(b"\r\n");
    let mut cookies = 0;
    for (name, value) in &parts.headers {
        match *name {
            HOST | CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING | TE => {}
            UPGRADE => {
                wishes.upgrade =
                    listed.contains(name) && body == BodyFraming::None && parts.version == Version::HTTP_11;
            }
            EXPECT => {
                if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                    return Err(StatusCode::EXPECTATION_FAILED);
                }
                wishes.waits = body != BodyFraming::None && parts.version >= Version::HTTP_11;
            }
            COOKIE if parts.version == Version::HTTP_2 => cookies += 1,
            ref name if is_old_hop(name) || listed.contains(name) => {}
            ref name if additions.says_proto && is_forwarded_proto(name) => {}
            ref name => line(out, name, value),
        }
    }
    if cookies > 0 {
        join_cookies(out, &parts.headers);
    }
    out.extend_from_slice(&additions.lines);
    connection(out, parts, &wishes);
    match body {
        // RFC 9110 section 8.6: a method that usually has a body says that it has none.
        BodyFraming::None if parts.headers.contains_key(CONTENT_LENGTH) => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        BodyFraming::None => {}
        BodyFraming::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            out.extend_from_slice(length.to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        BodyFraming::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    if wishes.waits {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(wishes)
}

/// The head of the request for an HTTP/2 backend. An error is the status that refuses it.
pub(crate) fn request(parts: &Parts, body: BodyFraming, additions: &Additions) -> Result<Request<()>, StatusCode> {
    let listed = listed(&parts.headers)?;
    check_codings(&parts.headers)?;
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder().scheme("http").authority(authority(parts)?).path_and_query(path);
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = uri.build().map_err(|_| StatusCode::BAD_REQUEST)?;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    for (name, value) in &parts.headers {
        match *name {
            HOST | CONNECTION | CONTENT_LENGTH | TRANSFER_ENCODING | TE | UPGRADE => {}
            // The client is told to go on as soon as its body is asked for, which is at once.
            EXPECT if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {}
            EXPECT => return Err(StatusCode::EXPECTATION_FAILED),
            ref name if is_old_hop(name) || listed.contains(name) => {}
            ref name if additions.says_proto && is_forwarded_proto(name) => {}
            ref name => _ = headers.append(name, value.clone()),
        }
    }
    let bad = |_| StatusCode::BAD_REQUEST;
    for line in additions.lines.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':').unwrap_or(line.len()));
        let value = value.strip_prefix(b": ").unwrap_or(value);
        let name = HeaderName::from_bytes(name).map_err(|_| StatusCode::BAD_REQUEST)?;
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| StatusCode::BAD_REQUEST)?);
    }
    match body {
        BodyFraming::None if parts.headers.contains_key(CONTENT_LENGTH) => {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        BodyFraming::Length(length) => {
            _ = headers.insert(CONTENT_LENGTH, HeaderValue::try_from(length.to_string()).map_err(bad)?)
        }
        BodyFraming::None | BodyFraming::Chunked => {}
    }
    if takes_trailers(parts) {
        // RFC 9113 section 8.2.2: the one value that it may have; gRPC wants it.
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

fn takes_trailers(parts: &Parts) -> bool {
    parts.headers.get_all(TE).iter().any(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"))
}

/// RFC 9112 section 6.1: a coding that is not known here cannot be taken off, and a body that goes on as mere chunks would
/// be another one.
fn check_codings(headers: &HeaderMap) -> Result<(), StatusCode> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let is_plain = codings.next().is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if is_plain && codings.next().is_none() { Ok(()) } else { Err(StatusCode::NOT_IMPLEMENTED) }
}

#[inline]
fn is_forwarded_proto(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.len() == 17 && name == "x-forwarded-proto"
}

/// RFC 9110 section 7.6.1: fields that `Connection` lists go no further.
fn listed(headers: &HeaderMap) -> Result<Vec<HeaderName>, StatusCode> {
    let mut listed = vec![];
    for value in headers.get_all(CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is_known = option.eq_ignore_ascii_case(b"close") || option.eq_ignore_ascii_case(b"keep-alive");
            if !is_known && !option.is_empty() {
                listed.push(HeaderName::from_bytes(option).map_err(|_| StatusCode::BAD_REQUEST)?);
            }
        }
    }
    Ok(listed)
}

fn request_line(out: &mut Vec<u8>, parts: &Parts) {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    // RFC 9112 section 3.2: origin form to an origin, except for `OPTIONS *`.
    match parts.uri.path_and_query() {
        Some(path) if path.as_str().starts_with(['/', '*']) => out.extend_from_slice(path.as_str().as_bytes()),
        Some(path) => {
            out.push(b'/');
            out.extend_from_slice(path.as_str().as_bytes());
        }
        None => out.push(b'/'),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// RFC 9112 section 3.2: exactly one `Host`; the authority of an absolute target, which every target of HTTP/2 is,
/// replaces it.
fn authority(parts: &Parts) -> Result<&[u8], StatusCode> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(StatusCode::BAD_REQUEST),
        (None, None) if parts.version == Version::HTTP_11 => return Err(StatusCode::BAD_REQUEST),
        (host, None) => host.map(HeaderValue::as_bytes),
    };
    let host = parts.uri.authority().map_or(host, |authority| Some(authority.as_str().as_bytes()));
    let host = host.unwrap_or_default();
    // A name with these in it is read differently by different programs.
    if host.iter().any(|byte| matches!(byte, b' ' | b'\t' | b',' | b'/' | b'@' | b'\\')) {
        return Err(StatusCode::BAD_REQUEST);
    }
    Ok(host)
}

#[inline]
fn line(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// RFC 9113 section 8.2.3: HTTP/2 may send a cookie in crumbs, HTTP/1.1 may not.
fn join_cookies(out: &mut Vec<u8>, headers: &HeaderMap) {
    out.extend_from_slice(b"cookie: ");
    for (index, crumb) in headers.get_all(COOKIE).iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(crumb.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// What this proxy asks of the connection to the backend, on behalf of the client.
fn connection(out: &mut Vec<u8>, parts: &Parts, wishes: &Wishes) {
    if wishes.upgrade {
        for protocol in parts.headers.get_all(UPGRADE) {
            line(out, &UPGRADE, protocol);
        }
        out.extend_from_slice(b"connection: upgrade\r\n");
    } else if takes_trailers(parts) {
        // RFC 9110 section 10.1.4: trailers that the client can take can be taken.
        out.extend_from_slice(b"te: trailers\r\nconnection: te\r\n");
    }
}
