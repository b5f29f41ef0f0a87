//! The files of a report, in one folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{Report, chart, picture};

/// Why a report cannot be written.
#[derive(Debug, Error)]
#[error("the report cannot be written to {}", path.display())]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl WriteError {
    /// The file or folder that could not be written.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Report {
    /// The report as JSON, with the figures in the order of the struct's fields.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report has string keys only, and no map")
    }

    /// The picture of the whole climb, a bar a rung.
    pub fn to_svg(&self) -> String {
        picture::climb(self).into_file("Capacity of each rung of the climb, measured and by theory")
    }

    /// The latency curves of a rung, one picture each; none if the run has no such rung.
    pub fn curves_to_svg(&self, rung: &str) -> Vec<String> {
        let curves = self.rungs.iter().filter(|report| report.rung == rung).flat_map(|report| &report.curves);
        curves
            .map(|curve| chart::draw(curve, self.p99_bound_ms).into_file(&chart::describe(curve, self.p99_bound_ms)))
            .collect()
    }

    /// Writes `report.json`, `report.md`, `report.html`, `climb.svg`, and for each rung `rung-NN.svg` with its curve
    /// and `rung-NN-2.svg` and so on with its variants. Creates the folder; returns the files written.
    ///
    /// # Errors
    /// The folder or a file cannot be written; files before it stay.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<Vec<PathBuf>, WriteError> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(|source| WriteError { path: folder.to_path_buf(), source })?;
        let mut files = vec![
            ("report.json".to_owned(), self.to_json()),
            ("report.md".to_owned(), self.to_markdown()),
            ("report.html".to_owned(), self.to_html()),
            ("climb.svg".to_owned(), self.to_svg()),
        ];
        for rung in &self.rungs {
            // A rung's number is two digits; anything else must not choose where a file goes.
            let number: String = rung.rung.chars().filter(char::is_ascii_alphanumeric).collect();
            for (at, svg) in (1..).zip(self.curves_to_svg(&rung.rung)) {
                let variant = if at == 1 { String::new() } else { format!("-{at}") };
                files.push((format!("rung-{number}{variant}.svg"), svg));
            }
        }
        let mut written = Vec::new();
        for (name, content) in files {
            let path = folder.join(name);
            fs::write(&path, content).map_err(|source| WriteError { path: path.clone(), source })?;
            written.push(path);
        }
        Ok(written)
    }
}
