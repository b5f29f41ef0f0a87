//! Thumbnails of real pictures: decoded, made smaller, encoded, and put in place at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use png::{BitDepth, ColorType, Decoder, Encoder, Limits};
use resize::{Pixel, Type, new as resizer};
use rgb::{FromSlice, RGB8};

/// A picture that needs more memory than this is refused.
const MAX_BYTES: usize = 64 << 20;

/// Why there is no thumbnail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// A file cannot be read or written.
    #[error("a picture cannot be read or written")]
    Io(#[from] io::Error),
    /// The upload is no picture in RGB with 8 bits.
    #[error("the upload is no picture that can be read")]
    Unreadable,
}

impl From<png::DecodingError> for PictureError {
    fn from(error: png::DecodingError) -> Self {
        match error {
            png::DecodingError::IoError(error) => Self::Io(error),
            _ => Self::Unreadable,
        }
    }
}

/// Width and height in pixels.
pub type Size = (u32, u32);

/// Reads a picture: its size and its pixels, row by row.
///
/// # Errors
///
/// [`PictureError`].
pub fn read(file: &Path) -> Result<(Size, Vec<RGB8>), PictureError> {
    let limits = Limits { bytes: MAX_BYTES };
    let mut reader = Decoder::new_with_limits(BufReader::new(File::open(file)?), limits).read_info()?;
    let bytes = reader.output_buffer_size().filter(|bytes| *bytes <= MAX_BYTES).ok_or(PictureError::Unreadable)?;
    let mut buffer = vec![0; bytes];
    let info = reader.next_frame(&mut buffer)?;
    if (info.color_type, info.bit_depth) != (ColorType::Rgb, BitDepth::Eight) {
        return Err(PictureError::Unreadable);
    }
    Ok(((info.width, info.height), buffer[..info.buffer_size()].as_rgb().to_vec()))
}

/// Makes a square thumbnail of `from` at `to`. False if it is there already: somebody made it before.
///
/// It is written beside its place and linked into it, which succeeds once: two workers with the same job cannot both.
///
/// # Errors
///
/// [`PictureError`].
pub fn thumbnail(from: &Path, to: &Path, pixels: u32) -> Result<bool, PictureError> {
    if to.exists() {
        return Ok(false);
    }
    let ((width, height), picture) = read(from)?;
    let side = pixels as usize;
    let mut small = vec![RGB8::default(); side * side];
    resizer(width as usize, height as usize, side, side, Pixel::RGB8, Type::Triangle)
        .and_then(|mut resizer| resizer.resize(&picture, &mut small))
        .map_err(|_| PictureError::Unreadable)?;
    let unfinished = to.with_extension(format!("{}.part", std::process::id()));
    write(&unfinished, (pixels, pixels), &small)?;
    let linked = fs::hard_link(&unfinished, to);
    fs::remove_file(&unfinished)?;
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes a picture.
///
/// # Errors
///
/// The file cannot be written.
pub fn write(file: &Path, (width, height): Size, pixels: &[RGB8]) -> io::Result<()> {
    let out = BufWriter::new(OpenOptions::new().write(true).create(true).truncate(true).open(file)?);
    let mut encoder = Encoder::new(out, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| [pixel.r, pixel.g, pixel.b]).collect();
    let mut writer = encoder.write_header().map_err(io::Error::other)?;
    writer.write_image_data(&bytes).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)
}

/// A picture to upload: a gradient that differs with `number`.
pub fn sample(number: u64, (width, height): Size) -> Vec<RGB8> {
    let shade = |at: u32, of: u32| (at * 255 / of.max(1)) as u8;
    let pixel = |at: u32| RGB8::new(shade(at % width, width), shade(at / width, height), number as u8);
    (0..width * height).map(pixel).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use tenfold_rig::TempDir;

    #[test]
    fn a_thumbnail_is_the_picture_made_smaller_and_made_once() {
        let dir = TempDir::new().unwrap();
        let (from, to) = (dir.path().join("7.png"), dir.path().join("small.png"));
        write(&from, (256, 128), &sample(7, (256, 128))).unwrap();
        assert!(thumbnail(&from, &to, 32).unwrap());
        assert!(!thumbnail(&from, &to, 32).unwrap());
        let (size, pixels) = read(&to).unwrap();
        assert_eq!(size, (32, 32));
        assert!(pixels.iter().all(|pixel| pixel.b == 7));
        assert!(pixels[0].r < 16 && pixels[31].r > 239, "left is dark, right is light: {:?}", &pixels[..32]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing unfinished is left");
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let dir = TempDir::new().unwrap();
        let (from, to) = (dir.path().join("7.png"), dir.path().join("small.png"));
        for bytes in [b"".as_slice(), b"no picture", b"\x89PNG\r\n\x1a\n\0\0"] {
            File::create(&from).unwrap().write_all(bytes).unwrap();
            assert!(matches!(thumbnail(&from, &to, 32), Err(PictureError::Unreadable | PictureError::Io(_))));
            assert!(!to.exists());
        }
        assert!(matches!(thumbnail(&dir.path().join("none"), &to, 32), Err(PictureError::Io(_))));
    }
}
