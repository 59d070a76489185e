//! Writes what a package brings besides the program, made from the options as the program has them:
//!
//! ```text
//! cargo run --example generate -- FOLDER
//! ```
//!
//! | file | what it is |
//! | --- | --- |
//! | `memwire.1` | the manual page |
//! | `memwire.bash`, `_memwire`, `memwire.fish` | completions for bash, zsh and fish |

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use memwire::args::Args;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder] = &arguments[..] else {
        eprintln!("generate: a folder to write to is wanted");
        return ExitCode::from(64);
    };
    match generate(folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {}: {error}", folder.display());
            ExitCode::FAILURE
        }
    }
}

fn generate(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    Man::new(Args::command()).generate_to(folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Args::command(), "memwire", folder)?;
    }
    Ok(())
}
