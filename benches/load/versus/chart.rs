//! The ratios as a picture: a row's bars side by side, the better memcached (or redis) being 1. Readable in light and dark.

use std::fmt::Write as _;

use super::cell::{FLOOR, Line};
use crate::server::MEMWIRE;

/// A group's name, or a row and its servers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Entry {
    Heading(String),
    Row { name: String, bars: Vec<Bar> },
}

/// A server in a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bar {
    pub(crate) server: String,
    pub(crate) ratio: f64,
}

const WIDTH: f64 = 860.0;
/// Where the bars begin.
const LEFT: f64 = 210.0;
/// Where the longest ends; its figure comes behind.
const RIGHT: f64 = 800.0;
const BAR_HEIGHT: f64 = 9.0;
const BAR_STEP: f64 = 11.0;
const ROW_GAP: f64 = 8.0;
const HEADING_HEIGHT: f64 = 30.0;
const TOP: f64 = 42.0;

/// Bars that are longer are cut, or the others could not be told from each other.
const RATIO_MAX: f64 = 5.0;

/// A server's colour, by the beginning of its name.
const COLOURS: &[(&str, &str, &str)] = &[
    (MEMWIRE, "#0b69c7", "#58a6ff"),
    ("memcached", "#5d8a3a", "#8ebf67"),
    ("redis", "#c4473a", "#f0776b"),
    (FLOOR, "#9a9a9a", "#808080"),
];

/// What there is to draw: of the memcacheds the better one.
pub(crate) fn bars(lines: &[Line]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut group = None;
    for line in lines {
        if group.replace(line.group) != Some(line.group) {
            entries.push(Entry::Heading(line.group.to_string()));
        }
        let yardstick = line.yardstick().map(|cell| cell.name.as_str());
        let shown = line.cells.iter().filter(|cell| !cell.is_memcached() || Some(&*cell.name) == yardstick);
        let bars = shown.filter_map(|cell| {
            line.ratio(cell).map(|ratio| Bar { server: cell.name.clone(), ratio: ratio.median })
        });
        entries.push(Entry::Row { name: line.row.name.to_owned(), bars: bars.collect() });
    }
    entries
}

/// The picture.
pub(crate) fn svg(entries: &[Entry]) -> String {
    let height = TOP + entries.iter().map(height_of).sum::<f64>() + 10.0;
    let ratios = entries.iter().flat_map(|entry| match entry {
        Entry::Heading(_) => &[][..],
        Entry::Row { bars, .. } => bars,
    });
    let longest = ratios.map(|bar| bar.ratio).fold(1.0, f64::max).min(RATIO_MAX);
    let scale = (RIGHT - LEFT) / longest;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n{}",
        style()
    );
    legend(&mut text);
    let one = LEFT + scale;
    let _ = writeln!(
        text,
        "<line class=\"one\" x1=\"{one:.1}\" y1=\"{:.1}\" x2=\"{one:.1}\" y2=\"{height}\"/>",
        TOP - 4.0
    );
    let mut y = TOP;
    for entry in entries {
        match entry {
            Entry::Heading(name) => {
                let _ = writeln!(
                    text,
                    "<text class=\"heading\" x=\"10\" y=\"{:.1}\">{}</text>",
                    y + 18.0,
                    escaped(name)
                );
            }
            Entry::Row { name, bars } => draw_row(&mut text, y, scale, name, bars),
        }
        y += height_of(entry);
    }
    text.push_str("</svg>\n");
    text
}

fn height_of(entry: &Entry) -> f64 {
    match entry {
        Entry::Heading(_) => HEADING_HEIGHT,
        Entry::Row { bars, .. } => bars.len().max(1) as f64 * BAR_STEP + ROW_GAP,
    }
}

fn draw_row(text: &mut String, y: f64, scale: f64, name: &str, bars: &[Bar]) {
    let middle = y + bars.len().max(1) as f64 * BAR_STEP / 2.0 + 3.0;
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
        LEFT - 8.0,
        escaped(name)
    );
    for (number, bar) in bars.iter().enumerate() {
        let top = y + number as f64 * BAR_STEP;
        let width = bar.ratio.min(RATIO_MAX) * scale;
        let cut = if bar.ratio > RATIO_MAX { " →" } else { "" };
        let _ = writeln!(
            text,
            "<rect class=\"{}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\">\
             <title>{}: {:.2}</title></rect>\n<text class=\"figure\" x=\"{:.1}\" y=\"{:.1}\">{:.2}{cut}</text>",
            class_of(&bar.server),
            escaped(&bar.server),
            bar.ratio,
            LEFT + width + 4.0,
            top + 8.0,
            bar.ratio
        );
    }
}

/// Each server's colour, and that of text, on both grounds.
fn style() -> String {
    let mut light =
        String::from("text{fill:#222}.heading{font-size:13px;font-weight:bold}.figure{font-size:9px}");
    light.push_str(".one{stroke:#888;stroke-dasharray:3 3}");
    let mut dark = String::from("text{fill:#ddd}");
    for (name, on_light, on_dark) in COLOURS {
        let class = class_of(name);
        let _ = write!(light, ".{class}{{fill:{on_light}}}");
        let _ = write!(dark, ".{class}{{fill:{on_dark}}}");
    }
    format!("<style>{light}@media (prefers-color-scheme:dark){{{dark}}}</style>\n")
}

fn legend(text: &mut String) {
    for (number, (name, ..)) in COLOURS.iter().enumerate() {
        let x = LEFT + 110.0 * number as f64;
        let _ = writeln!(
            text,
            "<rect class=\"{}\" x=\"{x}\" y=\"12\" width=\"10\" height=\"10\"/><text x=\"{}\" y=\"21\">{name}</text>",
            class_of(name),
            x + 15.0
        );
    }
}

/// A server that is none of the known ones has no colour of its own.
fn class_of(server: &str) -> &'static str {
    let known = COLOURS.iter().find(|(name, ..)| server.starts_with(name));
    known.map_or("other", |&(name, ..)| name)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
