//! [`Number`]: the types that values have. Truth values are the bytes 0 and 1.

/// A number on its way from one type to another: neither 64-bit integers nor f64 can hold all of the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wide {
    Whole(i64),
    Real(f64),
}

impl Wide {
    pub(crate) fn real(self) -> f64 {
        match self {
            Wide::Whole(x) => x as f64,
            Wide::Real(x) => x,
        }
    }
}

/// Arithmetic as ONNX means it: integers wrap, and their quotients are cut towards 0.
pub(crate) trait Number: Copy + Send + Sync + PartialOrd + 'static {
    /// Whether it has no fractions, no infinities and no NaN.
    const WHOLE: bool;
    const ZERO: Self;

    fn wide(self) -> Wide;
    /// The nearest float; of integers the low bits, of fractions the part before the point.
    fn narrow(wide: Wide) -> Self;
    fn is_nan(self) -> bool;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    /// Integers by 0: 0.
    fn div(self, other: Self) -> Self;
    /// A negative integer power is that of a float, cut.
    fn pow(self, other: Self) -> Self;
    /// The remainder with the divisor's sign.
    fn modulo(self, other: Self) -> Self;
    /// The remainder with the dividend's sign.
    fn remainder(self, other: Self) -> Self;
}

macro_rules! float {
    ($type:ty, $pow:expr) => {
        impl Number for $type {
            const WHOLE: bool = false;
            const ZERO: Self = 0.0;

            fn wide(self) -> Wide {
                Wide::Real(self.into())
            }

            fn narrow(wide: Wide) -> Self {
                match wide {
                    Wide::Whole(x) => x as Self,
                    Wide::Real(x) => x as Self,
                }
            }

            fn is_nan(self) -> bool {
                self.is_nan()
            }

            fn add(self, other: Self) -> Self {
                self + other
            }

            fn sub(self, other: Self) -> Self {
                self - other
            }

            fn mul(self, other: Self) -> Self {
                self * other
            }

            fn div(self, other: Self) -> Self {
                self / other
            }

            fn pow(self, other: Self) -> Self {
                match other {
                    2.0 => self * self,
                    1.0 => self,
                    _ => $pow(self, other),
                }
            }

            fn modulo(self, other: Self) -> Self {
                let rest = self % other;
                if rest != 0.0 && (rest < 0.0) != (other < 0.0) { rest + other } else { rest }
            }

            fn remainder(self, other: Self) -> Self {
                self % other
            }
        }
    };
}

float!(f32, libm::powf);
float!(f64, libm::pow);

macro_rules! whole {
    ($type:ty) => {
        impl Number for $type {
            const WHOLE: bool = true;
            const ZERO: Self = 0;

            fn wide(self) -> Wide {
                Wide::Whole(self.into())
            }

            fn narrow(wide: Wide) -> Self {
                match wide {
                    Wide::Whole(x) => x as Self,
                    Wide::Real(x) => x as i64 as Self,
                }
            }

            fn is_nan(self) -> bool {
                false
            }

            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }

            fn div(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }

            fn pow(self, other: Self) -> Self {
                match u32::try_from(other) {
                    Ok(power) => self.wrapping_pow(power),
                    Err(_) => libm::pow(self as f64, other as f64) as Self,
                }
            }

            fn modulo(self, other: Self) -> Self {
                let rest = self.remainder(other);
                let signs_differ = rest.wide().real() * other.wide().real() < 0.0;
                if signs_differ { rest.wrapping_add(other) } else { rest }
            }

            fn remainder(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
        }
    };
}

whole!(i64);
whole!(i32);
whole!(i8);
whole!(u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_never_panic() {
        let (a, b) = ([7, -7, i64::MIN, 3, 2], [0, 3, -1, -2, 63]);
        for (what, op, expected) in [
            ("div", i64::div as fn(i64, i64) -> i64, [0, -2, i64::MIN, -1, 0]),
            ("modulo", i64::modulo, [0, 2, 0, -1, 2]),
            ("remainder", i64::remainder, [0, -1, 0, 1, 2]),
            ("pow", <i64 as Number>::pow, [1, -343, 0, 0, i64::MIN]),
        ] {
            let got = [0, 1, 2, 3, 4].map(|i| op(a[i], b[i]));
            assert_eq!(got, expected, "{what}");
        }
        assert_eq!((u8::sub(1, 2), i8::MAX.add(1), i32::MIN.div(-1)), (255, i8::MIN, i32::MIN));
    }

    #[test]
    fn types_become_each_other() {
        let big = i64::MAX - 1;
        assert_eq!(i64::narrow(big.wide()), big, "more bits than f64 has");
        assert_eq!(i32::narrow((1i64 << 32 | 5).wide()), 5, "the low bits");
        assert_eq!(i64::narrow((-2.9f32).wide()), -2);
        assert_eq!(u8::narrow((-1.0f32).wide()), 255);
        assert_eq!(i64::narrow(f32::NAN.wide()), 0);
        assert_eq!(f32::narrow((-3i8).wide()), -3.0);
        assert_eq!(f64::narrow(0.1f64.wide()), 0.1);
    }
}
