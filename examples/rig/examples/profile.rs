//! Prints the profile of a recorded trace as the Rust constant that the climb's default requests follow.
//!
//! ```text
//! cargo run --release -p tenfold-rig --example profile -- web07.d64.zst
//! ```

use std::error::Error;
use std::path::Path;

use tenfold_rig::{Profile, Trace};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: profile TRACE")?;
    let trace = Trace::open(&path)?;
    let name = Path::new(&path).file_name().unwrap_or(&path).to_string_lossy().replace(".d64.zst", "");
    let accesses: Vec<u64> = trace.keys().collect();
    print(&Profile::measure(name, &accesses));
    Ok(())
}

fn print(profile: &Profile) {
    println!("pub const {}: Profile = Profile {{", profile.name.to_uppercase());
    println!("    name: Cow::Borrowed(\"{}\"),", profile.name);
    println!("    source: Cow::Borrowed(\"(whose data, under which licence)\"),");
    println!("    accesses: {},", profile.accesses);
    println!("    keys: {},", profile.keys);
    println!("    first: {:.6},", profile.first);
    println!("    popularity: Cow::Borrowed(&[{}]),", shares(&profile.popularity));
    println!("    reuse: Cow::Borrowed(&[{}]),", shares(&profile.reuse));
    println!("}};");
}

fn shares(shares: &[f64]) -> String {
    shares.iter().map(|share| format!("{share:.6}")).collect::<Vec<_>>().join(", ")
}
