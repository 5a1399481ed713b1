//! Blocks that architectures share: attention with its projections, gated and plain MLPs, mixtures.
