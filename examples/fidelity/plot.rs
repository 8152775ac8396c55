//! Error by age as an SVG picture, one panel a stream.

use crate::Row;
use plotters::prelude::*;
use std::error::Error;
use std::path::Path;

/// Draws the rows' curves.
pub fn draw(path: &Path, rows: &[&Row]) -> Result<(), Box<dyn Error>> {
    let Some(first) = rows.first() else { return Ok(()) };
    let root = SVGBackend::new(path, (1400, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let oldest = first.curves.iter().filter_map(|(_, curve)| curve.ages.last()).copied().fold(10.0, f64::max);
    for (panel, area) in root.split_evenly((1, first.curves.len())).iter().enumerate() {
        let title = format!("{}, N = {}", first.curves[panel].0, first.capacity);
        let mut chart = ChartBuilder::on(area)
            .caption(title, ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(44)
            .build_cartesian_2d((1.0..oldest).log_scale(), 0.0..1.5)?;
        let lines = RGBColor(228, 228, 228);
        chart
            .configure_mesh()
            .max_light_lines(0)
            .bold_line_style(lines)
            .x_desc("age in steps")
            .y_desc("squared error / variance")
            .draw()?;
        for (i, row) in rows.iter().enumerate() {
            let colour = Palette99::pick(i).to_rgba();
            let curve = &row.curves[panel].1;
            let points = curve.ages.iter().zip(&curve.errors).map(|(age, error)| (*age, error.min(1.5)));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(row.keeper)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
        if panel == 0 {
            chart
                .configure_series_labels()
                .background_style(WHITE.mix(0.8))
                .position(SeriesLabelPosition::UpperLeft)
                .draw()?;
        }
    }
    root.present()?;
    Ok(())
}
