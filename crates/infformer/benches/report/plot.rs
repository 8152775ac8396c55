//! How the cost of a tick grows, as a picture.

use crate::Growth;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

const COLOURS: [RGBColor; 2] = [RGBColor(31, 119, 180), RGBColor(214, 99, 23)];

/// Four charts, side by side: µs a tick and agent over what grows, both axes logarithmic.
pub fn draw(path: &Path, growth: &[Growth]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::new(path, (1_280, 320)).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, growth) in root.split_evenly((1, growth.len())).iter().zip(growth) {
        let points = || growth.curves.iter().flat_map(|(_, points)| points.iter().copied());
        let (from, to) = points().fold((f64::INFINITY, 1.0_f64), |(from, to), (at, _)| (from.min(at), to.max(at)));
        let most = points().fold(1.0_f64, |most, (_, cost)| most.max(cost));
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .caption(format!("µs a tick, over {}", growth.what), ("sans-serif", 15))
            .x_label_area_size(28)
            .y_label_area_size(36)
            .build_cartesian_2d((from..to).log_scale(), (0.3..most * 2.0).log_scale())?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_labels(4)
            .y_labels(5)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .draw()?;
        for ((policy, points), colour) in growth.curves.iter().zip(COLOURS) {
            chart
                .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
                .label(*policy)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
        chart.configure_series_labels().position(SeriesLabelPosition::UpperLeft).border_style(BLACK).draw()?;
    }
    root.present()?;
    Ok(())
}
