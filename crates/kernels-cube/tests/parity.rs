//! The suite of every device on CubeCL's default device of this machine, and what of it ran there.

#[path = "../../kernels/tests/suite/mod.rs"]
mod suite;

use suite::parity_suite;
use temper_kernels_cube::Cube;

fn cube() -> Cube {
    Cube::new(cubecl::Device::default().client())
}

parity_suite!(cube());

/// The storage, RMSNorm and linear layers run on the device; nothing of them falls back to the host.
#[test]
fn linear_and_rms_norm_run_on_the_device() {
    let d = cube();
    println!("{}", temper_kernels::Device::describe(&d));
    suite::rms_norm_both_ways(&d);
    suite::linear_both_ways_on_parts(&d);
    suite::linear_with_adapters(&d);
    suite::an_arena_is_measured_before_it_is_allocated(&d);
    assert_eq!(d.on_host(), Default::default());
    suite::swiglu_both_ways(&d);
    assert_eq!(d.on_host(), [("swiglu", 1), ("swiglu_backward", 1)].into());
}
