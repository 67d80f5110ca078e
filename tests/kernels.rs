//! Our own loops against their plain references, and the networks that run on them against tract's own ops.

use std::path::Path;

use captiond::kernels::{
    Activation, Attention, Clamp, Convnet, Depthwise, Dot, Geometry, Heads, Layer, Linear, Mask,
    Memory, Norm, Operation, Positions, Scratch, Shape, Weights, instruction_sets,
};
use captiond::{
    embedding::{ImageTower, TextTower},
    engine::{
        Activations, Engine,
        tract::{PlainEngine, TractEngine},
    },
    pack::Pack,
};

/// Numbers in [-1, 1) that look random.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.f32() * 2.0 - 1.0).collect()
}

fn codes(count: usize, seed: u64) -> Vec<i8> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| random.i8(-127..=127)).collect()
}

#[track_caller]
fn assert_close(found: &[f32], expected: &[f32], scale: f32) {
    assert_eq!(found.len(), expected.len());
    for (at, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= 1e-5 * scale, "{at}: {a} instead of {b}");
    }
}

const RELU6: Clamp = Clamp {
    least: Some(0.0),
    most: Some(6.0),
};

#[test]
fn products_equal_the_reference_for_every_remainder() {
    let mut scratch = Scratch::default();
    for (inner, outer) in [
        (1, 1),
        (3, 15),
        (24, 16),
        (17, 33),
        (40, 64),
        (27, 88),
        (64, 145),
    ] {
        let scales: Vec<f32> = noise(outer, 1).iter().map(|v| v.abs() / 500.0).collect();
        let (bias, weights) = (noise(outer, 2), noise(inner * outer, 3));
        let bytes = codes(inner * outer, 4);
        let kinds = [
            Linear::new(Weights::Int8(&bytes, &scales), inner, outer, &bias, RELU6),
            Linear::new(Weights::F32(&weights), inner, outer, &[], Clamp::default()),
        ];
        for linear in kinds.map(Option::unwrap) {
            for rows in (1..=26).chain([31, 61]) {
                let a = noise(rows * inner, rows as u64);
                let residual = noise(rows * outer, 5);
                for residual in [None, Some(residual.as_slice())] {
                    let mut expected = vec![f32::NAN; rows * outer];
                    linear.reference(&a, rows, residual, &mut expected);
                    for arch in instruction_sets() {
                        let mut found = vec![f32::NAN; rows * outer];
                        let linear = linear.clone().on(arch);
                        linear.run(&a, rows, residual, &mut found, &mut scratch);
                        assert_close(&found, &expected, inner as f32);
                    }
                }
            }
        }
    }
}

/// Whatever the machine has, the same bits; so packs say the same everywhere.
#[test]
fn integer_products_are_the_same_to_the_last_bit() {
    let mut scratch = Scratch::default();
    for (inner, outer) in [
        (1, 1),
        (3, 15),
        (8, 16),
        (24, 48),
        (17, 33),
        (27, 32),
        (40, 64),
        (64, 145),
        (771, 130),
    ] {
        let scales: Vec<f32> = noise(outer, 1).iter().map(|v| v.abs() / 500.0).collect();
        let bias = noise(outer, 2);
        // The whole range, with its ends often.
        let mut bytes = codes(inner * outer, 4);
        bytes.iter_mut().step_by(3).for_each(|b| *b = i8::MIN);
        bytes.iter_mut().step_by(5).for_each(|b| *b = i8::MAX);
        for clamp in [RELU6, Clamp::default()] {
            let weights = Weights::Int8(&bytes, &scales);
            let linear = Linear::new(weights, inner, outer, &bias, clamp).unwrap();
            let linear = linear.in_integers();
            for rows in (1..=20).chain([31, 77]) {
                let mut a = noise(rows * inner, rows as u64);
                // A row of zeros, rows of the greatest amounts, and one so small that it counts as zero.
                match rows % 4 {
                    0 => a[..inner].fill(0.0),
                    1 => a[..inner].fill(-3.0),
                    2 => a[..inner].fill(1e-38),
                    _ => a[..inner].iter_mut().for_each(|v| *v = v.signum()),
                }
                let residual = noise(rows * outer, 5);
                for residual in [None, Some(residual.as_slice())] {
                    let mut expected = vec![f32::NAN; rows * outer];
                    linear.reference(&a, rows, residual, &mut expected);
                    for dot in Dot::all() {
                        let mut found = vec![f32::NAN; rows * outer];
                        let linear = linear.clone().on_dot(dot);
                        linear.run(&a, rows, residual, &mut found, &mut scratch);
                        let bits = |values: &[f32]| -> Vec<u32> {
                            values.iter().map(|v| v.to_bits()).collect()
                        };
                        assert_eq!(bits(&found), bits(&expected), "{dot:?}");
                    }
                }
            }
        }
    }
}

/// Sums too large for f32 to hold exactly are rounded in the same way, too.
#[test]
fn long_integer_products_do_not_overflow() {
    let (inner, outer) = (1 << 16, 3);
    let scales = [1.0; 3];
    for code in [i8::MIN, i8::MAX] {
        let bytes = vec![code; inner * outer];
        let weights = Weights::Int8(&bytes, &scales);
        let linear = Linear::new(weights, inner, outer, &[], Clamp::default()).unwrap();
        let linear = linear.in_integers();
        for sign in [-1.0, 1.0] {
            let a = vec![sign * 127.0; inner];
            let expected = f64::from(sign) * 127.0 * f64::from(code) * inner as f64;
            for dot in Dot::all() {
                let mut found = [0.0; 3];
                let linear = linear.clone().on_dot(dot);
                linear.run(&a, 1, None, &mut found, &mut Scratch::default());
                assert_eq!(found, [expected as f32; 3], "{dot:?}");
            }
        }
    }
}

/// With and without a cache and a mask; for one query, where nothing is put in another order, and for many.
#[test]
fn attention_equals_the_reference() {
    let mut scratch = Scratch::default();
    for (heads, depth) in [(1, 1), (2, 8), (3, 21), (4, 64)] {
        let width = heads * depth;
        for (kept, rows) in [(0, 1), (7, 1), (30, 1), (5, 4), (0, 5), (3, 17), (0, 50)] {
            let (sequences, count) = (2, kept + rows);
            // Queries, keys and values side by side in each row; the cache is head by head.
            let new = noise(sequences * rows * 3 * width, 12);
            let cache = noise(sequences * 2 * kept * width, 13);
            let mask = noise(heads * rows * count, 14);
            let side_by_side = |part: usize| Heads {
                values: &new,
                first: part * width,
                sequence: rows * 3 * width,
                head: depth,
                row: 3 * width,
            };
            let in_cache = |entry: usize| Heads {
                values: &cache,
                first: entry * kept * width,
                sequence: 2 * kept * width,
                head: kept * depth,
                row: depth,
            };
            let for_each_head = Mask {
                values: &mask,
                steps: [0, rows * count, count],
            };
            for mask in [None, Some(for_each_head)] {
                for arch in instruction_sets() {
                    let attention = Attention {
                        arch,
                        sequences,
                        heads,
                        depth,
                        scale: 0.7,
                        queries: side_by_side(0),
                        rows,
                        positions: [
                            Positions {
                                keys: in_cache(0),
                                values: in_cache(1),
                                count: kept,
                            },
                            Positions {
                                keys: side_by_side(1),
                                values: side_by_side(2),
                                count: rows,
                            },
                        ],
                        mask,
                    };
                    let mut expected = vec![f32::NAN; sequences * rows * width];
                    attention.reference(&mut expected);
                    let mut found = vec![f32::NAN; expected.len()];
                    attention.run(&mut found, &mut scratch);
                    assert_close(&found, &expected, 1.0);
                }
            }
        }
    }
}

#[test]
fn what_is_hidden_is_not_attended_to_and_a_row_that_sees_nothing_stays_a_number() {
    let values = noise(6 * 16, 15);
    let rows = Heads {
        values: &values,
        first: 0,
        sequence: 0,
        head: 0,
        row: 16,
    };
    let positions = |count| Positions {
        keys: rows,
        values: rows,
        count,
    };
    let hidden: Vec<f32> = (0..6).map(|at| f32::from(at > 1) * -1e9).collect();
    let run = |positions, mask: &[f32]| {
        let attention = Attention {
            arch: instruction_sets()[0],
            sequences: 1,
            heads: 1,
            depth: 16,
            scale: 0.25,
            queries: rows,
            rows: 6,
            positions,
            mask: Some(Mask {
                values: mask,
                steps: [0; 3],
            }),
        };
        let mut out = vec![f32::NAN; 6 * 16];
        attention.run(&mut out, &mut Scratch::default());
        out
    };
    let seen = run([positions(2), positions(0)], &[0.0; 2]);
    assert_close(&run([positions(6), positions(0)], &hidden), &seen, 0.1);
    let nothing = run([positions(6), positions(0)], &[-1e9; 6]);
    assert!(nothing.iter().all(|value| value.abs() < 1.0), "{nothing:?}");
}

#[test]
fn norms_equal_the_reference() {
    for width in [1, 5, 16, 100, 384] {
        let from: Vec<f32> = noise(7 * width, 16).iter().map(|x| x * 3.0 + 0.5).collect();
        for shift in [noise(width, 17), Vec::new()] {
            let norm = Norm::new(noise(width, 18), shift, 1e-5).unwrap();
            let mut expected = vec![f32::NAN; from.len()];
            norm.reference(&from, &mut expected);
            for arch in instruction_sets() {
                let mut found = vec![f32::NAN; from.len()];
                norm.run(arch, &from, &mut found);
                assert_close(&found, &expected, 2.0);
            }
        }
    }
    assert!(Norm::new(Vec::new(), Vec::new(), 0.0).is_none());
    assert!(Norm::new(vec![1.0; 3], vec![1.0; 2], 0.0).is_none());
}

#[test]
fn activation_functions_equal_the_reference() {
    let numbers: Vec<f32> = (-4000..=4000).map(|i| i as f32 / 200.0).collect();
    for activation in [
        Activation::Gelu,
        Activation::TanhGelu,
        Activation::Sigmoid(1.702),
        Activation::Sigmoid(1.0),
    ] {
        let expected: Vec<f32> = numbers
            .iter()
            .map(|&x| activation.reference(f64::from(x)) as f32)
            .collect();
        for arch in instruction_sets() {
            let mut found = numbers.clone();
            activation.run(arch, &mut found);
            assert_close(&found, &expected, 0.5);
            let mut odd = [f32::NAN, -1e30, 0.0];
            activation.run(arch, &mut odd);
            assert!(
                odd[0].is_nan() && odd[1].abs() < 1e-5 && odd[2] == 0.0,
                "{odd:?}"
            );
        }
    }
    // Known to all digits: Abramowitz and Stegun, table 7.1, erf 1.
    let gelu = Activation::Gelu.reference(2f64.sqrt());
    assert!((gelu - 2f64.sqrt() / 2.0 * 1.842_700_792_949_7).abs() < 1e-12);
}

#[test]
fn depthwise_convolutions_equal_the_reference() {
    for kernel in [1, 3, 5, 7] {
        for stride in [1, 2, 3] {
            for (before, after) in [(0, 0), (kernel / 2, kernel / 2), (0, kernel - 1)] {
                for (rows, columns, channels) in [(7, 7, 3), (9, 23, 16), (12, 31, 41)] {
                    let geometry = Geometry {
                        size: [rows, columns],
                        kernel: [kernel; 2],
                        strides: [stride; 2],
                        before: [before; 2],
                        after: [after; 2],
                    };
                    let weights = noise(kernel * kernel * channels, 6);
                    let bias = noise(channels, 7);
                    let layer = Depthwise::new(geometry, channels, weights, &bias, RELU6).unwrap();
                    let input = noise(rows * columns * channels, 8);
                    let [high, wide] = layer.output();
                    let mut expected = vec![f32::NAN; high * wide * channels];
                    layer.reference(&input, &mut expected);
                    for arch in instruction_sets() {
                        let mut found = vec![f32::NAN; high * wide * channels];
                        let layer = layer.clone().on(arch);
                        layer.run(&input, 0, 0..high, &mut found);
                        assert_close(&found, &expected, (kernel * kernel) as f32);
                    }
                }
            }
        }
    }
}

/// An inverted residual block run in bands, against its layers one by one.
#[test]
fn a_block_in_bands_equals_its_layers() {
    for (stride, kernel) in [(1, 3), (1, 5), (2, 3), (2, 5)] {
        let (rows, columns, narrow, wide) = (61, 67, 8, 48);
        let pad = kernel / 2;
        let geometry = Geometry {
            size: [rows, columns],
            kernel: [kernel; 2],
            strides: [stride; 2],
            before: [pad; 2],
            after: [pad; 2],
        };
        let linear = |inner: usize, outer: usize, clamp| {
            let weights = noise(inner * outer, 9);
            Linear::new(Weights::F32(&weights), inner, outer, &[], clamp).unwrap()
        };
        let depthwise = noise(kernel * kernel * wide, 10);
        let depthwise = Depthwise::new(geometry, wide, depthwise, &[], RELU6).unwrap();
        let (widen, narrowing) = (
            linear(narrow, wide, RELU6),
            linear(wide, narrow, Clamp::default()),
        );
        let layer = |operation, input, other| Layer {
            operation,
            input,
            other,
        };
        let net = Convnet::new(
            Shape {
                rows,
                columns,
                channels: narrow,
            },
            vec![
                layer(Operation::Pointwise(widen.clone()), 0, None),
                layer(Operation::Depthwise(depthwise.clone()), 1, None),
                layer(
                    Operation::Pointwise(narrowing.clone()),
                    2,
                    (stride == 1).then_some(0),
                ),
            ],
        )
        .unwrap();
        let input = noise(rows * columns * narrow, 11);
        let out = net.output();
        let mut found = vec![f32::NAN; out.rows * out.columns * out.channels];
        let mut memory = Memory::default();
        // Twice: nothing may be left over from the first time.
        net.run(&input, &mut found, &mut memory);
        net.run(&input, &mut found, &mut memory);

        let turn = |from: &[f32], rows: usize| -> Vec<f32> {
            let columns = from.len() / rows;
            let places = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
            places.map(|at| from[at]).collect()
        };
        let last = turn(&input, narrow);
        let mut widened = vec![0.0; rows * columns * wide];
        widen.reference(&last, rows * columns, None, &mut widened);
        let mut filtered = vec![0.0; out.rows * out.columns * wide];
        depthwise.reference(&widened, &mut filtered);
        let mut expected = vec![0.0; found.len()];
        let residual = (stride == 1).then_some(last.as_slice());
        narrowing.reference(&filtered, out.rows * out.columns, residual, &mut expected);
        assert_close(&found, &turn(&expected, out.rows * out.columns), 50.0);
    }
}

#[test]
fn towers_on_int8_activations_say_nearly_the_same() {
    if !captiond::kernels::is_vectorised() {
        eprintln!("##### SKIPPED: no vector instructions, so tract runs everything in f32 #####");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pack = Pack::open(&root.join("models/default")).unwrap();
    let path = root.join("tests/samples/brown_dog_on_the_grass.jpg");
    let picture = image::open(path).unwrap().into_rgb8();
    let mut embeddings = [Activations::F32, Activations::Int8].map(|activations| {
        pack.manifest.image_tower.activations = activations;
        pack.manifest.text_tower.activations = activations;
        let mut image = pack.image_tower(&TractEngine).unwrap();
        let mut text = pack.text_tower(&TractEngine).unwrap();
        let caption = "A brown dog is playing with a ball in the grass";
        [image.embed(&picture).unwrap(), text.embed(caption).unwrap()]
    });
    let [whole, integers] = &mut embeddings;
    for ((a, b), least) in whole.iter().zip(integers).zip([0.99, 0.99]) {
        assert_ne!(a, b, "were both run on the same numbers?");
        let cosine: f32 = a.iter().zip(b).map(|(a, b)| a * *b).sum();
        assert!(cosine > least, "{cosine}");
    }
}

/// Least cosine of the two engines' embeddings.
fn least_cosine(embed: impl Fn(&dyn Engine) -> Vec<Vec<f32>>) -> f32 {
    let (ours, tracts) = (embed(&TractEngine), embed(&PlainEngine));
    assert!(!ours.is_empty() && ours.len() == tracts.len());
    let cosines = ours.iter().zip(&tracts).map(|(a, b)| -> f32 {
        assert_ne!(
            a, b,
            "the same to the last digit: were both run on the same ops?"
        );
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    });
    cosines.fold(1.0, f32::min)
}

#[test]
fn the_default_towers_say_in_f32_what_tract_says() {
    if !captiond::kernels::is_vectorised() {
        eprintln!("##### SKIPPED: no vector instructions, so tract runs everything #####");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pack = Pack::open(&root.join("models/default")).unwrap();
    pack.manifest.image_tower.activations = Activations::F32;
    pack.manifest.text_tower.activations = Activations::F32;
    let images = least_cosine(|engine| {
        let mut tower: ImageTower = pack.image_tower(engine).unwrap();
        let samples = ["brown_dog_on_the_grass.jpg", "beach_at_sunset.jpg"];
        let pictures = samples.map(|name| root.join("tests/samples").join(name));
        let pictures = pictures.map(|path| image::open(path).unwrap().into_rgb8());
        pictures
            .iter()
            .map(|picture| tower.embed(picture).unwrap())
            .collect()
    });
    assert!(images > 0.999_999, "{images}");
    let texts = least_cosine(|engine| {
        let mut tower: TextTower = pack.text_tower(engine).unwrap();
        let captions = ["Snow", "A brown dog is playing with a ball in the grass"];
        captions
            .iter()
            .map(|caption| tower.embed(caption).unwrap())
            .collect()
    });
    assert!(texts > 0.999_999, "{texts}");
}
