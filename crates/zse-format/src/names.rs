//! Finding things by name: a sorted list of ids, which hostile names cannot slow down as they
//! could a hash table.

/// Sorts `ids` by name. If a name occurs twice, the error is the greater of its two ids.
pub(crate) fn sort<'n, Id: Copy + Ord>(
    ids: &mut [Id],
    name: impl Fn(Id) -> &'n str,
) -> Result<(), Id> {
    ids.sort_unstable_by(|&a, &b| name(a).cmp(name(b)).then(a.cmp(&b)));
    match ids.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
        Some(pair) => Err(pair[1]),
        None => Ok(()),
    }
}

/// The id with this name, in ids that [`sort`] has sorted.
pub(crate) fn find<'n, Id: Copy>(
    ids: &[Id],
    name: impl Fn(Id) -> &'n str,
    wanted: &str,
) -> Option<Id> {
    ids.binary_search_by(|&id| name(id).cmp(wanted))
        .ok()
        .map(|at| ids[at])
}
