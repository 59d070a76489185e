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

use std::fs::File;
use std::io::{self, Write};
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
    manual_page(File::create(folder.join("memwire.1"))?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Args::command(), "memwire", folder)?;
    }
    Ok(())
}

const FILES: &str = "  /etc/memwire/memwire.toml  Options, as the service of the Debian package reads them";

fn manual_page(mut page: impl Write) -> io::Result<()> {
    // What stands behind the options is laid out in lines of its own, which clap_mangen would fill.
    let more = Args::command().get_after_help().map(ToString::to_string).unwrap_or_default();
    let command = Man::new(Args::command().after_help(""));
    command.render_title(&mut page)?;
    command.render_name_section(&mut page)?;
    command.render_synopsis_section(&mut page)?;
    command.render_description_section(&mut page)?;
    command.render_options_section(&mut page)?;
    for paragraph in more.split("\n\n").chain([&format!("Files:\n{FILES}")[..]]) {
        let (heading, lines) = paragraph.split_once(":\n").unwrap_or(("More", paragraph));
        let lines = lines.replace('\\', "\\e").replace('-', "\\-");
        writeln!(page, ".SH {}\n.nf\n{lines}\n.fi", heading.to_uppercase())?;
    }
    command.render_version_section(&mut page)
}
