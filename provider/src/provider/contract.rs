//! The contract of the provider block and of every resource, data source and ephemeral resource, one line per attribute: a file each in `contract/`.
//! `UPDATE_EXPECT=1` rewrites them: read the difference as a user would.

use std::collections::BTreeSet;
use std::path::Path;

use expect_test::expect_file;

use super::*;

#[test]
fn every_contract_is_as_recorded() {
    let resources = Groundwork.resources();
    let resources = resources.iter().map(|resource| (format!("resource_{}", resource.name()), resource.block()));
    let data_sources = Groundwork.data_sources();
    let data_sources = data_sources.iter().map(|source| (format!("data_{}", source.name()), source.block()));
    let ephemeral = Groundwork.ephemeral_resources();
    let ephemeral = ephemeral.iter().map(|own| (format!("ephemeral_{}", own.name()), own.block()));
    let provider = ("provider".to_owned(), tf::Block::of::<Block>());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider/contract");
    let mut recorded = BTreeSet::new();
    for (name, block) in resources.chain(data_sources).chain(ephemeral).chain([provider]) {
        let file = format!("{name}.txt");
        expect_file![folder.join(&file)].assert_eq(&tf::docs::outline(&block));
        recorded.insert(file);
    }
    let found = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(found.collect::<BTreeSet<_>>(), recorded, "a contract of nothing: remove the file");
}
