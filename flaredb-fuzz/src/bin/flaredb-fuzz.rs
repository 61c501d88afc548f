//! `flaredb-fuzz seeds FOLDER` writes the seeds of every target to FOLDER/<target>/; `flaredb-fuzz run TARGET FILE...` runs
//! files, for a closer look at a finding.

use flaredb_fuzz::{TARGETS, seeds, target};
use std::{env, error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["seeds", folder] => {
            for target in TARGETS {
                let folder = Path::new(folder).join(target.name);
                fs::create_dir_all(&folder)?;
                for (number, seed) in seeds::of(target.name).iter().enumerate() {
                    fs::write(folder.join(format!("seed-{number:02}")), seed)?;
                }
            }
            Ok(())
        }
        ["run", name, files @ ..] => {
            let target = target(name).ok_or("no such target")?;
            for file in files {
                (target.body)(&fs::read(file)?);
                println!("{file}: passes");
            }
            Ok(())
        }
        _ => Err("flaredb-fuzz seeds FOLDER | run TARGET FILE...".into()),
    }
}
