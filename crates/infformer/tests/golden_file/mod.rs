//! Reads the reference vectors under `tests/golden`.

use safetensors::{Dtype, SafeTensors};
use std::collections::HashMap;

/// One file of vectors with the configuration that made them.
pub struct GoldenFile {
    /// The file's name without its ending.
    pub name: String,
    bytes: Vec<u8>,
    metadata: HashMap<String, String>,
}

impl GoldenFile {
    /// Opens `tests/golden/{name}.safetensors`.
    pub fn open(name: &str) -> Self {
        let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        Self { name: name.into(), bytes, metadata }
    }

    /// A field of the configuration.
    pub fn text(&self, field: &str) -> &str {
        self.metadata.get(field).unwrap_or_else(|| panic!("{}: no {field} in {:?}", self.name, self.metadata))
    }

    /// A number of the configuration.
    pub fn number(&self, field: &str) -> f64 {
        self.text(field).parse().unwrap()
    }

    /// A list of numbers of the configuration.
    pub fn list(&self, field: &str) -> Vec<f64> {
        serde_json::from_str(self.text(field)).unwrap()
    }

    /// A tensor's values in f64.
    pub fn tensor(&self, name: &str) -> Option<Vec<f64>> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let tensor = tensors.tensor(name).ok()?;
        Some(match tensor.dtype() {
            Dtype::F32 => {
                tensor.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            Dtype::F64 => tensor.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            other => panic!("{name} is {other:?}"),
        })
    }

    /// A weight: stored, or one of the formulas of the file whose weights are too large to store.
    pub fn weight(&self, name: &str) -> Vec<f64> {
        if let Some(weight) = self.tensor(&format!("weight.{name}")) {
            return weight;
        }
        let (e, n) = (self.number("e"), self.number("N"));
        let matrix = |phase: f64| {
            let place = |at: usize| (at / e as usize, at % e as usize);
            let value = |(i, j): (usize, usize)| (0.37 * i as f64 + 1.13 * j as f64 + phase).sin() / e.sqrt();
            (0..(e * e) as usize).map(|at| f64::from(value(place(at)) as f32)).collect()
        };
        let vector = |speed: f64, phase: f64| {
            (0..n as usize).map(|at| f64::from(((speed * at as f64 + phase).sin() / n.sqrt()) as f32)).collect()
        };
        match name {
            "key" => matrix(0.0),
            "value" => matrix(1.0),
            "out" => matrix(2.0),
            "mu" => vector(0.7, 0.3),
            "sigma" => vector(0.5, 1.1),
            other => panic!("no weight {other}"),
        }
    }
}

/// Largest difference over the largest expected value.
pub fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, |most: f64, value| most.max(value.abs()));
    let difference = largest(&mut found.iter().zip(expected).map(|(found, expected)| found - expected));
    difference / largest(&mut expected.iter().copied())
}
