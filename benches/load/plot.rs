//! Draws latency against offered rate as an SVG, without a library: two axes and four lines.

use crate::table::{Own, Point};
use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 60.0;

/// The plot: offered rate to the right, milliseconds upward in powers of ten.
pub(crate) fn latency(points: &[Point], own: &Own, machine: &str) -> String {
    let rate_max = points.iter().map(|point| point.rate).fold(1.0, f64::max) * 1.05;
    let all = || points.iter().flat_map(|point| [point.relay.0, point.relay.1, point.sdk.0, point.sdk.1]);
    let decade_min = all().filter(|value| *value > 0.0).fold(f64::MAX, f64::min).min(1.0).log10().floor();
    let decade_max = all().fold(1.0, f64::max).log10().ceil().max(decade_min + 1.0);
    let x = |rate: f64| LEFT + (WIDTH - LEFT - RIGHT) * rate / rate_max;
    let y = |milliseconds: f64| {
        let part = (milliseconds.max(1e-3).log10() - decade_min) / (decade_max - decade_min);
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">Latency against offered rate: {} octets, {} connections, SES {} ms away</text>\n\
         <text x=\"{LEFT}\" y=\"40\" fill=\"#555\">{machine}; open loop, from when a message was due</text>\n",
        own.octets, own.connections, own.latency_ms
    );
    let mut decade = decade_min;
    while decade <= decade_max {
        let at = y(10_f64.powf(decade));
        let label = 10_f64.powf(decade);
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
            WIDTH - RIGHT
        );
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label} ms</text>", LEFT - 6.0, at + 4.0);
        decade += 1.0;
    }
    for point in points {
        let at = x(point.rate);
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{:.0}</text>",
            HEIGHT - BOTTOM + 18.0,
            point.rate
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">messages offered a second</text>",
        WIDTH / 2.0,
        HEIGHT - 16.0
    );
    type Pick = fn(&Point) -> f64;
    let lines: [(&str, &str, &str, Pick); 4] = [
        ("relay p50", "#1f6fb4", "none", |point| point.relay.0),
        ("relay p99", "#1f6fb4", "6 4", |point| point.relay.1),
        ("aws-sdk-sesv2 alone p50", "#888", "none", |point| point.sdk.0),
        ("aws-sdk-sesv2 alone p99", "#888", "6 4", |point| point.sdk.1),
    ];
    for (place, (name, colour, dashes, pick)) in lines.into_iter().enumerate() {
        let path: String = points.iter().map(|point| format!("{:.1},{:.1} ", x(point.rate), y(pick(point)))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
            path.trim_end()
        );
        let (left, top) = (LEFT + 14.0, TOP + 14.0 + 18.0 * place as f64);
        let _ = writeln!(
            svg,
            "<line x1=\"{left}\" x2=\"{}\" y1=\"{top}\" y2=\"{top}\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\
             <text x=\"{}\" y=\"{}\">{name}</text>",
            left + 30.0,
            left + 36.0,
            top + 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}
