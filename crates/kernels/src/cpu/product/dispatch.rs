//! From instructions known at run time to code compiled for them.

/// Calls a function that is generic over instruction set and precision, compiled for those that `$kernels` names. The
/// arguments are variables of these names. Unsafe: `$kernels` holds instructions that the processor has, and what the
/// function asks for.
macro_rules! dispatch {
    ($kernels:expr, $name:ident ( $($argument:ident : $type:ty),* $(,)? )) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
        unsafe fn avx512_bf16<const BF16: bool>($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $name::<$crate::cpu::product::isa::Avx512Bf16, BF16>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        unsafe fn avx512<const BF16: bool>($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $name::<$crate::cpu::product::isa::Avx512, BF16>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,f16c")]
        unsafe fn avx2<const BF16: bool>($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $name::<$crate::cpu::product::isa::Avx2, BF16>($($argument),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
        unsafe fn amx($($argument: $type),*) {
            // SAFETY: the caller's promise.
            unsafe { $name::<$crate::cpu::product::isa::Amx, true>($($argument),*) }
        }
        match ($kernels.instructions, $kernels.bf16) {
                #[cfg(target_arch = "x86_64")]
                ($crate::cpu::product::Instructions::Amx, true) => amx($($argument),*),
                #[cfg(target_arch = "x86_64")]
                // In f32 these are the same instructions.
                ($crate::cpu::product::Instructions::Avx512Bf16, true) => avx512_bf16::<true>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                (
                    $crate::cpu::product::Instructions::Amx
                    | $crate::cpu::product::Instructions::Avx512Bf16
                    | $crate::cpu::product::Instructions::Avx512,
                    false,
                ) => avx512::<false>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                ($crate::cpu::product::Instructions::Avx512, true) => avx512::<true>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                ($crate::cpu::product::Instructions::Avx2, true) => avx2::<true>($($argument),*),
                #[cfg(target_arch = "x86_64")]
                ($crate::cpu::product::Instructions::Avx2, false) => avx2::<false>($($argument),*),
                (_, true) => $name::<$crate::cpu::product::isa::Portable, true>($($argument),*),
                (_, false) => $name::<$crate::cpu::product::isa::Portable, false>($($argument),*),
        }
    }};
}
