//! Options from everywhere: a TOML file, the environment, the command line.
//!
//! Each source is turned into command-line arguments, which are placed before what was typed. So an option has one
//! definition and one check, whatever it comes through. A list (`listen`, `extended`) of a later source replaces that of
//! an earlier one; only on the command line itself is it added to.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use crate::args::Args;

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// What an environment variable's name begins with.
const PREFIX: &str = "MEMWIRE_";
/// memcached's own variable, for `-S`.
const PASSWORD_FILE: &str = "MEMCACHED_SASL_PWDB";
/// Options that say what to do instead of serving, or where the others are.
const NO_SETTINGS: &[&str] = &["config", "print-config", "license"];

/// What all sources say together.
#[derive(Debug)]
pub struct Settings {
    /// The options.
    pub args: Args,
    /// A sentence for each thing that was not understood, and does no harm.
    pub warnings: Vec<String>,
    /// The file that they come from, as it was named.
    pub file: Option<PathBuf>,
    matches: ArgMatches,
}

/// Why there are no settings.
#[derive(Debug)]
pub enum Refusal {
    /// What clap says of the command line. Help and version come this way, too.
    Usage(clap::Error),
    /// A sentence about the file or the environment.
    Sentence(String),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Self::Usage(error)
    }
}

impl From<String> for Refusal {
    fn from(sentence: String) -> Self {
        Self::Sentence(sentence)
    }
}

/// What one source says: arguments, by the long name of their option.
type Layer = BTreeMap<String, Vec<OsString>>;

/// Reads the command line `typed`, its program's name first, then `environment`, and the file that either of them names.
///
/// # Errors
/// [`Refusal`].
pub fn gather(
    typed: &[OsString],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Settings, Refusal> {
    let command = Args::command();
    let (program, typed) = typed.split_first().map_or((None, typed), |(first, rest)| (Some(first), rest));
    let program = program.cloned().unwrap_or_else(|| "memwire".into());
    let parse = |arguments: Vec<OsString>| {
        command.clone().try_get_matches_from([program.clone()].into_iter().chain(arguments))
    };

    let matches = parse(typed.to_vec())?;
    let mut environment = from_environment(&command, environment)?;
    let file = matches.get_one::<PathBuf>("config").cloned().or(environment.file.take());
    let mut layer = match &file {
        Some(path) => from_file(&command, path).map_err(|why| format!("{}: {why}", path.display()))?,
        None => Layer::new(),
    };
    layer.append(&mut environment.layer);
    layer.retain(|name, _| {
        let id = option(&command, name).map(|arg| arg.get_id().as_str());
        id.is_none_or(|id| matches.value_source(id) != Some(ValueSource::CommandLine))
    });

    let matches = parse(layer.into_values().flatten().chain(typed.iter().cloned()).collect())?;
    let mut args = Args::from_arg_matches(&matches)?;
    if args.enable_sasl && args.auth_file.is_none() && args.sasl_pwdb.is_none() {
        args.sasl_pwdb = environment.password_file;
    }
    Ok(Settings { args, warnings: environment.warnings, file, matches })
}

impl Settings {
    /// What holds, as a file that can be read back. An option that is off stands there as a comment.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for arg in Args::command().get_arguments().filter(|arg| is_setting(arg)) {
            let name = arg.get_long().unwrap_or_default();
            // Writing to a string does not fail.
            let _ = match self.value(arg) {
                Some(value) => writeln!(text, "{name} = {value}"),
                None => writeln!(text, "# {name} ="),
            };
        }
        text
    }

    fn value(&self, arg: &Arg) -> Option<Value> {
        let id = arg.get_id().as_str();
        match arg.get_action() {
            ArgAction::SetTrue => Some(self.matches.get_flag(id).into()),
            ArgAction::Count => Some(i64::from(self.matches.get_count(id)).into()),
            action => {
                let given = self.matches.get_raw(id)?;
                let mut values = given.map(|text| typed_value(arg, &text.to_string_lossy()));
                if matches!(action, ArgAction::Append) {
                    Some(values.collect::<Vec<_>>().into())
                } else {
                    values.next_back()
                }
            }
        }
    }
}

fn typed_value(arg: &Arg, text: &str) -> Value {
    if is_text(arg) {
        return text.into();
    }
    // A number that TOML does not have stands in quotes, which are taken as well.
    if arg.get_value_parser().type_id() == TypeId::of::<f64>() {
        return text.parse::<f64>().map_or_else(|_| text.into(), Value::from);
    }
    text.parse::<i64>().map_or_else(|_| text.into(), Value::from)
}

fn is_setting(arg: &Arg) -> bool {
    let sets = matches!(
        arg.get_action(),
        ArgAction::Set | ArgAction::Append | ArgAction::SetTrue | ArgAction::Count
    );
    sets && arg.get_long().is_some_and(|name| !NO_SETTINGS.contains(&name))
}

fn is_text(arg: &Arg) -> bool {
    let kind = arg.get_value_parser().type_id();
    kind == TypeId::of::<String>() || kind == TypeId::of::<PathBuf>()
}

fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| is_setting(arg) && arg.get_long() == Some(name))
}

/// What holds where a file with this text is all there is.
///
/// # Errors
/// A sentence that names the line, or the option.
pub fn of_file(text: &str) -> Result<Settings, String> {
    let command = Args::command();
    let layer = from_text(&command, text)?;
    let arguments = [OsString::new()].into_iter().chain(layer.into_values().flatten());
    let matches = command.try_get_matches_from(arguments).map_err(|error| error.to_string())?;
    let args = Args::from_arg_matches(&matches).map_err(|error| error.to_string())?;
    Ok(Settings { args, warnings: Vec::new(), file: None, matches })
}

fn from_file(command: &Command, path: &Path) -> Result<Layer, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes"));
    }
    from_text(command, &text)
}

fn from_text(command: &Command, text: &str) -> Result<Layer, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line =
            before.map_or(String::new(), |before| format!("line {}: ", before.matches('\n').count() + 1));
        format!("{line}{}", error.message().replace('\n', ", "))
    })?;
    let mut layer = Layer::new();
    for (name, value) in table {
        let Some(arg) = option(command, &name) else {
            return Err(format!("{}: unknown option{}", name.escape_debug(), hint(command, &name)));
        };
        let arguments =
            from_toml(arg, &name, &value).map_err(|wanted| format!("{name}: {wanted} is wanted"))?;
        check(command, &arguments).map_err(|why| format!("{name}: {why}"))?;
        layer.insert(name, arguments);
    }
    Ok(layer)
}

/// The arguments that `value` stands for, or what is wanted instead.
fn from_toml(arg: &Arg, name: &str, value: &Value) -> Result<Vec<OsString>, &'static str> {
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(on)) => Ok(flags(name, usize::from(*on))),
        (ArgAction::SetTrue, _) => Err("true or false"),
        (ArgAction::Count, Value::Integer(times)) => match u8::try_from(*times) {
            Ok(times) => Ok(flags(name, times.into())),
            Err(_) => Err("a number from 0 to 255"),
        },
        (ArgAction::Count, _) => Err("a number from 0 to 255"),
        (ArgAction::Append, Value::Array(values)) => {
            values.iter().map(|value| assignment(arg, name, value)).collect()
        }
        _ => assignment(arg, name, value).map(|argument| vec![argument]),
    }
}

fn assignment(arg: &Arg, name: &str, value: &Value) -> Result<OsString, &'static str> {
    match value {
        Value::String(text) => Ok(format!("--{name}={text}").into()),
        // TOML reads 0o700 as 448, and the option's own reading of that would be another one.
        _ if is_text(arg) => Err("a text in quotes"),
        Value::Integer(_) | Value::Float(_) => Ok(format!("--{name}={value}").into()),
        _ => Err("a number or a text in quotes"),
    }
}

fn flags(name: &str, times: usize) -> Vec<OsString> {
    vec![format!("--{name}").into(); times]
}

/// Whether clap takes these arguments. What is missing or in conflict shows when all sources are together.
fn check(command: &Command, arguments: &[OsString]) -> Result<(), String> {
    let alone = [OsString::new()].into_iter().chain(arguments.iter().cloned());
    match command.clone().try_get_matches_from(alone) {
        Err(error)
            if !matches!(error.kind(), ErrorKind::MissingRequiredArgument | ErrorKind::ArgumentConflict) =>
        {
            let text = error.to_string();
            let sentence = text.lines().next().unwrap_or_default();
            // It quotes the value.
            let sentence =
                sentence.strip_prefix("error: ").unwrap_or(sentence).replace(char::is_control, " ");
            Err(sentence)
        }
        _ => Ok(()),
    }
}

/// The option whose name is the most like `name`, as clap finds it.
fn hint(command: &Command, name: &str) -> String {
    let typed = command.clone().try_get_matches_from([String::new(), format!("--{name}")]);
    let suggested = typed.err().and_then(|error| Some(error.get(ContextKind::SuggestedArg)?.to_string()));
    let suggested = suggested.map(|option| option.trim_start_matches('-').to_owned());
    suggested.map_or(String::new(), |option| format!("; did you mean {option}?"))
}

#[derive(Default)]
struct Environment {
    layer: Layer,
    file: Option<PathBuf>,
    password_file: Option<PathBuf>,
    warnings: Vec<String>,
}

fn from_environment(
    command: &Command,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Environment, String> {
    let mut found = Environment::default();
    for (variable, value) in variables {
        if variable == PASSWORD_FILE {
            found.password_file = Some(value.into());
            continue;
        }
        let Some(name) = variable.to_str().and_then(|variable| variable.strip_prefix(PREFIX)) else {
            continue;
        };
        // Empty is how a container's file says that it is not set.
        if value.is_empty() || is_orchestrators(name, &value) {
            continue;
        }
        if name == "CONFIG" {
            found.file = Some(value.into());
            continue;
        }
        let name = name.to_ascii_lowercase().replace('_', "-");
        let Some(arg) = option(command, &name) else {
            // Unlike a file it is no list of ours: anybody's variable may begin like that.
            let hint = hint(command, &name);
            found.warnings.push(format!("{}: no such option{hint}", variable.display()));
            continue;
        };
        let arguments = from_variable(arg, &name, &value).and_then(|arguments| {
            check(command, &arguments)?;
            Ok(arguments)
        });
        found.layer.insert(name, arguments.map_err(|why| format!("{}: {why}", variable.display()))?);
    }
    Ok(found)
}

/// What Kubernetes and Docker's links set for a service that is called memwire: `MEMWIRE_PORT=tcp://10.0.0.1:11211` and
/// others.
fn is_orchestrators(name: &str, value: &OsStr) -> bool {
    name.starts_with("SERVICE_")
        || name.starts_with("PORT_")
        || name == "PORT" && value.to_str().is_some_and(|value| value.contains("://"))
}

fn from_variable(arg: &Arg, name: &str, value: &OsStr) -> Result<Vec<OsString>, String> {
    let times = match arg.get_action() {
        ArgAction::SetTrue => match value.to_str() {
            Some("1" | "true" | "yes" | "on") => 1,
            Some("0" | "false" | "no" | "off") => 0,
            _ => return Err("true or false is wanted".into()),
        },
        ArgAction::Count => {
            let times = value.to_str().and_then(|value| value.parse::<u8>().ok());
            times.ok_or("a number from 0 to 255 is wanted")?.into()
        }
        _ => {
            let mut argument = OsString::from(format!("--{name}="));
            argument.push(value);
            return Ok(vec![argument]);
        }
    };
    Ok(flags(name, times))
}
