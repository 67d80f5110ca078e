//! Short sounds (earcons): a lost camera or broker is heard without words.

use std::f64::consts::TAU;

/// Samples a second; mono, 16 bit.
const RATE: u32 = 22_050;
/// Each tone starts and ends softly over so many seconds, or it clicks.
const EDGE: f64 = 0.008;
/// Of full scale: below speech.
const LOUDNESS: f64 = 0.4;

/// What a sound means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sound {
    /// Two tones, falling.
    CameraLost,
    /// Two tones, rising.
    CameraBack,
    /// Three low tones, alike.
    BrokerLost,
    /// One short high tone.
    Busy,
}

impl Sound {
    /// (hertz, seconds) of each tone; 0 Hz is a pause.
    fn tones(self) -> &'static [(f64, f64)] {
        match self {
            Self::CameraLost => &[(880.0, 0.12), (0.0, 0.03), (440.0, 0.2)],
            Self::CameraBack => &[(440.0, 0.12), (0.0, 0.03), (880.0, 0.2)],
            Self::BrokerLost => &[
                (220.0, 0.09),
                (0.0, 0.05),
                (220.0, 0.09),
                (0.0, 0.05),
                (220.0, 0.09),
            ],
            Self::Busy => &[(1320.0, 0.05)],
        }
    }

    /// The sound as a WAV file (RIFF, PCM, mono, 16 bit, 22,050 Hz).
    #[must_use]
    pub fn wav(self) -> Vec<u8> {
        let samples: Vec<i16> = self
            .tones()
            .iter()
            .flat_map(|(hertz, seconds)| tone(*hertz, *seconds))
            .collect();
        // At most a second or so: it fits.
        let bytes = u32::try_from(samples.len() * 2).unwrap_or(u32::MAX - 36);
        let mut wav = Vec::with_capacity(44 + samples.len() * 2);
        wav.extend(b"RIFF");
        wav.extend((36 + bytes).to_le_bytes());
        wav.extend(b"WAVEfmt ");
        wav.extend(16_u32.to_le_bytes());
        wav.extend(1_u16.to_le_bytes()); // PCM
        wav.extend(1_u16.to_le_bytes()); // channels
        wav.extend(RATE.to_le_bytes());
        wav.extend((RATE * 2).to_le_bytes()); // bytes a second
        wav.extend(2_u16.to_le_bytes()); // bytes a frame
        wav.extend(16_u16.to_le_bytes()); // bits a sample
        wav.extend(b"data");
        wav.extend(bytes.to_le_bytes());
        wav.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
        wav
    }
}

fn tone(hertz: f64, seconds: f64) -> impl Iterator<Item = i16> {
    let count = (seconds * f64::from(RATE)).round() as u32;
    (0..count).map(move |index| {
        let at = f64::from(index) / f64::from(RATE);
        let edge = (at.min(seconds - at) / EDGE).clamp(0.0, 1.0);
        let value = (TAU * hertz * at).sin() * edge * LOUDNESS;
        (value * f64::from(i16::MAX)).round() as i16
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const ALL: [Sound; 4] = [
        Sound::CameraLost,
        Sound::CameraBack,
        Sound::BrokerLost,
        Sound::Busy,
    ];

    fn samples(sound: Sound) -> Vec<i16> {
        let wav = sound.wav();
        wav[44..]
            .chunks_exact(2)
            .map(|pair| i16::from_le_bytes([pair[0], pair[1]]))
            .collect()
    }

    #[test]
    fn each_is_a_whole_wav_file_that_fits_into_a_pipe() {
        for sound in ALL {
            let wav = sound.wav();
            let length = |at: usize| u32::from_le_bytes(wav[at..at + 4].try_into().unwrap());
            assert_eq!((&wav[..4], &wav[8..16]), (&b"RIFF"[..], &b"WAVEfmt "[..]));
            assert_eq!(length(4) as usize, wav.len() - 8);
            assert_eq!(length(24), RATE);
            assert_eq!(length(40) as usize, wav.len() - 44);
            // Nobody has to read while it's written.
            assert!(wav.len() < 64 << 10);
        }
    }

    #[test]
    fn they_differ_can_be_heard_and_do_not_click() {
        let mut lengths = BTreeSet::new();
        for sound in ALL {
            let samples = samples(sound);
            lengths.insert(samples.len());
            let loudest = samples.iter().map(|sample| sample.unsigned_abs()).max();
            assert!((10_000..20_000).contains(&loudest.unwrap()), "{sound:?}");
            assert!(samples[0].abs() < 500 && samples[samples.len() - 1].abs() < 500);
            // Zero crossings tell the pitch: lost falls, back rises.
            let crossings = |part: &[i16]| {
                part.windows(2)
                    .filter(|pair| (pair[0] < 0) != (pair[1] < 0))
                    .count()
            };
            let (first, second) = (&samples[..1000], &samples[samples.len() - 1000..]);
            let falls = crossings(first) * 2 > crossings(second) * 3;
            assert_eq!(falls, sound == Sound::CameraLost, "{sound:?}");
        }
        assert_eq!(lengths.len(), 3, "only lost and back are equally long");
    }
}
