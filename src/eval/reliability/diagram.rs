//! The reliability diagram and the risk-coverage curve as an SVG.

use std::fmt::Write as _;

use super::Reliability;

/// Side of each of the two squares.
const SIDE: f64 = 260.0;
/// Room for the labels.
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const BETWEEN: f64 = 90.0;

/// A set of captions with its name.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// For the legend.
    pub name: &'a str,
    /// What is drawn.
    pub reliability: &'a Reliability,
}

/// Draws up to three sets: confidence against accepted share, and coverage against it.
pub fn draw(series: &[Series<'_>]) -> String {
    // Colours that are told apart by the colour-blind too (Okabe and Ito), and by their dashes in grey.
    let styles = [("#0072b2", ""), ("#d55e00", "7 3"), ("#009e73", "2 3")];
    let (width, height) = (LEFT + 2.0 * SIDE + BETWEEN + 20.0, TOP + SIDE + 90.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
         <title>Reliability and coverage of the confidence</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let second = LEFT + SIDE + BETWEEN;
    axes(&mut svg, LEFT, "confidence", "accepted");
    axes(
        &mut svg,
        second,
        "coverage (most confident first)",
        "accepted",
    );
    let diagonal = [(0.0, 0.0), (1.0, 1.0)];
    line(&mut svg, LEFT, diagonal.into_iter(), "#999999", "4 4");
    for (at, (series, (colour, dashes))) in series.iter().zip(styles).enumerate() {
        let r = series.reliability;
        let bins = r.bins.iter().map(|bin| (bin.confidence, bin.accepted));
        line(&mut svg, LEFT, bins.clone(), colour, dashes);
        for (x, y) in bins.map(|(x, y)| place(LEFT, x, y)) {
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>"
            );
        }
        let curve = r
            .coverage
            .iter()
            .map(|point| (point.coverage, point.accepted));
        line(&mut svg, second, curve, colour, dashes);
        let y = TOP + SIDE + 52.0 + 16.0 * at as f64;
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y} h24\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n\
             <text x=\"{}\" y=\"{}\">{}: ECE {:.3}, AUROC {}, Brier {:.3}, {} captions</text>",
            LEFT + 32.0,
            y + 4.0,
            escaped(series.name),
            r.ece,
            r.auroc
                .map_or("undefined".to_owned(), |auroc| format!("{auroc:.3}")),
            r.brier,
            r.rows
        );
    }
    svg + "</svg>\n"
}

fn place(left: f64, x: f64, y: f64) -> (f64, f64) {
    (left + SIDE * x, TOP + SIDE * (1.0 - y))
}

fn axes(svg: &mut String, left: f64, x_name: &str, y_name: &str) {
    let _ = writeln!(
        svg,
        "<rect x=\"{left}\" y=\"{TOP}\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"none\" stroke=\"#444444\"/>"
    );
    for step in 0..=5 {
        let value = f64::from(step) / 5.0;
        let (x, y) = place(left, value, value);
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value:.1}</text>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
            TOP + SIDE + 15.0,
            left - 6.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name}</text>\n\
         <text x=\"{left}\" y=\"{:.1}\">{y_name}</text>",
        left + SIDE / 2.0,
        TOP + SIDE + 32.0,
        TOP - 10.0
    );
}

fn line(
    svg: &mut String,
    left: f64,
    points: impl Iterator<Item = (f64, f64)>,
    colour: &str,
    dashes: &str,
) {
    let points: Vec<String> = points
        .map(|(x, y)| place(left, x, y))
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
        points.join(" ")
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_drawn_and_named() {
        let rows: Vec<(f64, bool)> = (0..100).map(|i| (f64::from(i) / 100.0, i > 50)).collect();
        let reliability = Reliability::new(&rows).unwrap();
        let series = ["people's votes", "own <captions>"].map(|name| Series {
            name,
            reliability: &reliability,
        });
        let svg = draw(&series);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("people's votes: ECE") && svg.contains("own &lt;captions>"));
        // The diagonal, and two lines for each set; a dot for each bin.
        assert_eq!(svg.matches("<polyline").count(), 5);
        assert_eq!(svg.matches("<circle").count(), 2 * reliability.bins.len());
        // The most confident bin lies at the top right.
        let last = reliability.bins.last().unwrap();
        let (x, y) = place(LEFT, last.confidence, last.accepted);
        assert!(svg.contains(&format!("cx=\"{x:.1}\" cy=\"{y:.1}\"")));
    }
}
