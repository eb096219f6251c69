//! The files of the pipeline, as they are shipped: carried inside the program, so that a demo needs no checkout.

/// Every file of `pipelines/totesys` that a project needs: its path in the project's folder, and its text.
pub fn project_files() -> &'static [(&'static str, &'static str)] {
    FILES
}

macro_rules! shipped {
    ($($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../pipelines/totesys/", $path)))),+]
    };
}

const FILES: &[(&str, &str)] = shipped![
    "starlift.toml",
    "source.sql",
    "warehouse.sql",
    "db_credentials.json.example",
    "warehouse_credentials.json.example",
    "email.txt.example",
    "seeds/currency_names.csv",
    "models/dim_counterparty.sql",
    "models/dim_currency.sql",
    "models/dim_date.sql",
    "models/dim_design.sql",
    "models/dim_location.sql",
    "models/dim_payment_type.sql",
    "models/dim_staff.sql",
    "models/dim_transaction.sql",
    "models/fact_payment.sql",
    "models/fact_purchase_order.sql",
    "models/fact_sales_order.sql",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_model_and_seed_of_the_pipeline_is_carried() {
        let pipeline = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pipelines/totesys");
        let mut shipped = BTreeSet::new();
        for folder in ["models", "seeds"] {
            for entry in std::fs::read_dir(pipeline.join(folder)).unwrap() {
                shipped.insert(format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap()));
            }
        }
        let carried: BTreeSet<String> =
            FILES.iter().map(|(path, _)| (*path).to_string()).filter(|path| path.contains('/')).collect();
        assert_eq!(carried, shipped);
    }
}
