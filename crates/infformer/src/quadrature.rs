//! Composite Gauss–Legendre quadrature: the integrals behind every projection, in f64.

use gauss_quad::GaussLegendre;
use std::num::NonZeroUsize;

/// Nodes in each panel: exact for polynomials of degree 31.
const ORDER: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// `count` + 1 evenly spaced edges from `start` to `end`.
pub fn even_edges(start: f64, end: f64, count: usize) -> Vec<f64> {
    (0..=count).map(|i| start + (end - start) * i as f64 / count as f64).collect()
}

/// Nodes and weights of the composite rule over the panels between neighbouring `edges`.
pub fn panels(edges: &[f64]) -> Vec<(f64, f64)> {
    let rule = GaussLegendre::new(ORDER);
    let mut nodes = Vec::with_capacity(ORDER.get() * edges.len());
    for edge in edges.windows(2) {
        let (middle, half) = ((edge[0] + edge[1]) / 2.0, (edge[1] - edge[0]) / 2.0);
        if half > 0.0 {
            nodes.extend(rule.iter().map(|(node, weight)| (middle + half * node, half * weight)));
        }
    }
    nodes
}
