//! TCP segments as lines of text, to bytes and back: `S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK>`.

use std::fmt;

use smoltcp::wire::{IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const PSH: u8 = 8;
const ACK: u8 = 16;
const URG: u8 = 32;
const ECE: u8 = 64;
const CWR: u8 = 128;
const FLAGS: [(char, u8); 8] = [
    ('S', SYN),
    ('F', FIN),
    ('R', RST),
    ('P', PSH),
    ('U', URG),
    ('E', ECE),
    ('W', CWR),
    ('.', ACK),
];
/// The ECN field of the IP header (RFC 3168, section 5).
const ECN: [(&str, u8); 3] = [("none", 0), ("ect0", 2), ("ce", 3)];

/// Numbers as they stand in a script: from either side's initial sequence number on, and clocks in
/// milliseconds from the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub len: usize,
    pub ack: u32,
    pub win: u16,
    pub urg: u16,
    pub ecn: u8,
    pub options: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Mss(u16),
    Scale(u8),
    SackPermitted,
    Sack(Vec<(u32, u32)>),
    /// Value and echo; None where the script leaves them to the runner.
    Clock(Option<(u32, u32)>),
}

/// What a line of a script says of a segment. What it does not say is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub flags: u8,
    /// First number, payload, and how many segments of this kind follow each other.
    pub numbers: Option<(u32, usize, u32)>,
    pub ack: Option<u32>,
    pub win: Option<u16>,
    pub urg: Option<u16>,
    pub ecn: Option<u8>,
    pub options: Option<Vec<Field>>,
}

/// What relative numbers count from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Zero {
    pub seq: u32,
    pub ack: u32,
    pub value: u32,
    pub echo: u32,
}

impl Zero {
    /// A first SYN echoes nothing, and says so by zero.
    fn of(self, flags: u8) -> Self {
        if flags & (SYN | ACK) == SYN { Self { echo: 0, ..self } } else { self }
    }
}

fn number<T: TryFrom<i64>>(text: &str) -> Result<T, String> {
    let number = text.trim().parse::<i64>().ok().and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| format!("{text:?} is no number that fits here"))
}

/// A sequence number; one before the beginning is negative.
fn sequence(text: &str) -> Result<u32, String> {
    number::<i64>(text).map(|n| n as u32)
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let (start, end) = text.split_once(':').ok_or_else(|| format!("{text:?} is not START:END"))?;
    Ok((sequence(start)?, sequence(end)?))
}

impl Pattern {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (front, options) = match text.split_once('<') {
            None => (text, None),
            Some((front, rest)) => {
                let inner = rest.trim().strip_suffix('>').ok_or("options end with \">\"")?;
                (front, Some(options(inner)?))
            }
        };
        let mut words = front.split_whitespace();
        let mut flags = 0;
        for letter in words.next().ok_or("flags are missing")?.chars() {
            let known = FLAGS.iter().find(|(name, _)| *name == letter);
            flags |= known.ok_or_else(|| format!("there is no flag {letter:?}"))?.1;
        }
        let numbers = match words.next().ok_or("START:END(LEN) or * is missing")? {
            "*" => None,
            text => Some(numbers(text)?),
        };
        let (mut ack, mut win, mut urg, mut ecn) = (None, None, None, None);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} of what?"))?;
            match word {
                "ack" => ack = Some(sequence(value)?),
                "win" => win = Some(number(value)?),
                "urg" => urg = Some(number(value)?),
                "ecn" => {
                    let known = ECN.iter().find(|(name, _)| *name == value);
                    ecn = Some(known.ok_or_else(|| format!("{value:?} is no ECN field"))?.1);
                }
                _ => return Err(format!("{word:?} is not known here")),
            }
        }
        Ok(Self { flags, numbers, ack, win, urg, ecn, options })
    }

    /// The segments that it stands for, where it says all.
    pub fn segments(&self) -> Result<Vec<Segment>, String> {
        let (start, len, times) = self.numbers.ok_or("which numbers?")?;
        if self.flags & ACK != 0 && self.ack.is_none() {
            return Err("acknowledges what?".into());
        }
        let segment = |n: u32| Segment {
            flags: self.flags,
            seq: start.wrapping_add(n * len as u32),
            len,
            ack: self.ack.unwrap_or(0),
            win: self.win.unwrap_or(u16::MAX),
            urg: self.urg.unwrap_or(0),
            ecn: self.ecn.unwrap_or(0),
            options: self.options.clone().unwrap_or_default(),
        };
        Ok((0..times).map(segment).collect())
    }

    pub fn times(&self) -> u32 {
        self.numbers.map_or(1, |(_, _, times)| times)
    }

    /// Whether the `n`th segment that it stands for may look like this.
    pub fn fits(&self, n: u32, seen: &Segment) -> bool {
        let significant = SYN | FIN | RST | URG | ACK | (self.flags & (PSH | ECE | CWR));
        let numbers = self.numbers.is_none_or(|(start, len, _)| {
            (seen.seq, seen.len) == (start.wrapping_add(n * len as u32), len)
        });
        let options = self.options.as_ref().is_none_or(|wanted| {
            let same = |(wanted, seen): (&Field, &Field)| {
                wanted == seen || matches!((wanted, seen), (Field::Clock(None), Field::Clock(_)))
            };
            let (wanted, seen) = (sorted(wanted), sorted(&seen.options));
            wanted.len() == seen.len() && wanted.iter().zip(&seen).all(same)
        });
        self.flags & significant == seen.flags & significant
            && numbers
            && options
            && self.ack.is_none_or(|ack| ack == seen.ack)
            && self.win.is_none_or(|win| win == seen.win)
            && self.urg.is_none_or(|urg| urg == seen.urg)
            && self.ecn.is_none_or(|ecn| ecn == seen.ecn)
    }
}

fn numbers(text: &str) -> Result<(u32, usize, u32), String> {
    let parts = text.strip_suffix(')').and_then(|text| text.split_once('('));
    let (numbers, len) = parts.ok_or_else(|| format!("{text:?} is not START:END(LEN)"))?;
    let (len, times) = match len.split_once('*') {
        None => (number(len)?, 1),
        Some((len, times)) => (number(len)?, number(times)?),
    };
    let (start, end) = range(numbers)?;
    let real = start.wrapping_add(len as u32 * times);
    if end != real {
        return Err(format!("{text:?} ends at {}", real as i32));
    }
    Ok((start, len, times))
}

fn options(text: &str) -> Result<Vec<Field>, String> {
    let option = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        Ok(match words[..] {
            ["mss", n] => Field::Mss(number(n)?),
            ["wscale", n] => Field::Scale(number(n)?),
            ["sackOK"] => Field::SackPermitted,
            ["sack", ref blocks @ ..] => {
                Field::Sack(blocks.iter().map(|block| range(block)).collect::<Result<_, _>>()?)
            }
            ["TS"] => Field::Clock(None),
            ["TS", "val", value, "ecr", echo] => {
                Field::Clock(Some((sequence(value)?, sequence(echo)?)))
            }
            _ => return Err(format!("there is no option {text:?}")),
        })
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(option).collect()
}

fn sorted(options: &[Field]) -> Vec<Field> {
    let mut options = options.to_vec();
    options.sort_by_key(|option| match option {
        Field::Mss(_) => 0,
        Field::Scale(_) => 1,
        Field::SackPermitted => 2,
        Field::Sack(_) => 3,
        Field::Clock(_) => 4,
    });
    options
}

/// Byte of a stream: our stream's, or theirs.
pub(super) fn byte(ours: bool, at: u32) -> u8 {
    (at.wrapping_mul(0x9e37_79b1) >> 13) as u8 ^ u8::from(ours)
}

impl Segment {
    /// TCP header and payload, which is of their stream.
    pub fn bytes(&self, (source, target): (u16, u16), zero: Zero) -> Vec<u8> {
        let zero = zero.of(self.flags);
        let mut options = Vec::new();
        for option in &self.options {
            match option {
                Field::Mss(mss) => options.extend([&[2, 4], &mss.to_be_bytes()[..]].concat()),
                Field::Scale(shift) => options.extend([3, 3, *shift]),
                Field::SackPermitted => options.extend([4, 2]),
                Field::Sack(blocks) => {
                    options.extend([5, 2 + 8 * blocks.len() as u8]);
                    for (start, end) in blocks {
                        options.extend(start.wrapping_add(zero.ack).to_be_bytes());
                        options.extend(end.wrapping_add(zero.ack).to_be_bytes());
                    }
                }
                Field::Clock(clock) => {
                    let (value, echo) = clock.unwrap_or_default();
                    options.extend([8, 10]);
                    options.extend(value.wrapping_add(zero.value).to_be_bytes());
                    options.extend(echo.wrapping_add(zero.echo).to_be_bytes());
                }
            }
        }
        options.resize(options.len().next_multiple_of(4), 1);
        let mut bytes = Vec::with_capacity(20 + options.len() + self.len);
        bytes.extend(source.to_be_bytes());
        bytes.extend(target.to_be_bytes());
        bytes.extend(self.seq.wrapping_add(zero.seq).to_be_bytes());
        let ack = if self.flags & ACK == 0 { 0 } else { self.ack.wrapping_add(zero.ack) };
        bytes.extend(ack.to_be_bytes());
        bytes.extend([(5 + options.len() as u8 / 4) << 4, self.flags]);
        bytes.extend(self.win.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urg.to_be_bytes());
        bytes.extend(options);
        bytes.extend((0..self.len as u32).map(|n| byte(false, self.seq.wrapping_add(n))));
        bytes
    }

    /// Reads an IP packet of ours. Its checksums and its payload must be right.
    pub fn read(ip: &[u8], zero: Zero) -> Result<Self, String> {
        let (tcp, ends): (&[u8], (IpAddress, IpAddress)) = if ip[0] >> 4 == 4 {
            let ip = Ipv4Packet::new_checked(ip).map_err(|e| e.to_string())?;
            if !ip.verify_checksum() {
                return Err("the checksum of the IPv4 header is wrong".into());
            }
            let ends = (ip.src_addr().into(), ip.dst_addr().into());
            (&ip.into_inner()[20..], ends)
        } else {
            let ip = Ipv6Packet::new_checked(ip).map_err(|e| e.to_string())?;
            let ends = (ip.src_addr().into(), ip.dst_addr().into());
            (&ip.into_inner()[40..], ends)
        };
        let packet = TcpPacket::new_checked(tcp).map_err(|e| e.to_string())?;
        if !packet.verify_checksum(&ends.0, &ends.1) {
            return Err("the checksum of TCP is wrong".into());
        }
        let word = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let half = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let header = usize::from(tcp[12] >> 4) * 4;
        let flags = tcp[13];
        let seq = word(4).wrapping_sub(zero.seq);
        let payload = &tcp[header..];
        let mut stream = (0..payload.len() as u32).map(|n| byte(true, seq.wrapping_add(n)));
        if let Some(at) = payload.iter().position(|byte| stream.next() != Some(*byte)) {
            return Err(format!("byte {} of the payload is wrong", seq.wrapping_add(at as u32)));
        }
        Ok(Self {
            flags,
            seq,
            len: payload.len(),
            ack: if flags & ACK == 0 { 0 } else { word(8).wrapping_sub(zero.ack) },
            win: half(14),
            urg: half(18),
            ecn: if ip[0] >> 4 == 4 { ip[1] & 3 } else { (ip[1] >> 4) & 3 },
            options: read_options(&tcp[20..header], zero.of(flags))?,
        })
    }

    pub fn is_syn(&self) -> bool {
        self.flags & SYN != 0
    }
}

fn read_options(mut rest: &[u8], zero: Zero) -> Result<Vec<Field>, String> {
    let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let mut options = Vec::new();
    loop {
        let option = match *rest {
            [] | [0, ..] => return Ok(options),
            [1, ..] => {
                rest = &rest[1..];
                continue;
            }
            [2, 4, a, b, ..] => Field::Mss(u16::from_be_bytes([a, b])),
            [3, 3, shift, ..] => Field::Scale(shift),
            [4, 2, ..] => Field::SackPermitted,
            [5, len, ref blocks @ ..] => {
                let blocks = blocks[..usize::from(len) - 2].chunks(8);
                let number = |bytes: &[u8]| word(bytes).wrapping_sub(zero.ack);
                Field::Sack(blocks.map(|b| (number(b), number(&b[4..]))).collect())
            }
            [8, 10, ref clock @ ..] => Field::Clock(Some((
                word(clock).wrapping_sub(zero.value),
                word(&clock[4..]).wrapping_sub(zero.echo),
            ))),
            _ => return Err(format!("no option that we know: {rest:?}")),
        };
        options.push(option);
        rest = &rest[usize::from(rest[1])..];
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, flag) in FLAGS {
            if self.flags & flag != 0 {
                write!(f, "{name}")?;
            }
        }
        let (seq, end) = (self.seq as i32, self.seq.wrapping_add(self.len as u32) as i32);
        write!(f, " {seq}:{end}({})", self.len)?;
        if self.flags & ACK != 0 {
            write!(f, " ack {}", self.ack as i32)?;
        }
        write!(f, " win {}", self.win)?;
        if let Some((name, _)) = ECN.iter().find(|(_, ecn)| self.ecn > 0 && *ecn == self.ecn) {
            write!(f, " ecn {name}")?;
        }
        f.write_str(" <")?;
        for (n, option) in self.options.iter().enumerate() {
            f.write_str(if n > 0 { "," } else { "" })?;
            match option {
                Field::Mss(mss) => write!(f, "mss {mss}")?,
                Field::Scale(shift) => write!(f, "wscale {shift}")?,
                Field::SackPermitted => f.write_str("sackOK")?,
                Field::Sack(blocks) => {
                    f.write_str("sack")?;
                    blocks
                        .iter()
                        .try_for_each(|(a, z)| write!(f, " {}:{}", *a as i32, *z as i32))?;
                }
                Field::Clock(clock) => {
                    let (value, echo) = clock.unwrap_or_default();
                    write!(f, "TS val {} ecr {}", value as i32, echo as i32)?;
                }
            }
        }
        f.write_str(">")
    }
}

#[test]
fn lines_are_understood_and_printed_the_same() {
    let line = "S. 0:0(0) ack 1 win 65535 <mss 1460,wscale 7,sackOK,sack 1:5 -7:9,TS val 3 ecr 4>";
    let segments = Pattern::parse(line).unwrap().segments().unwrap();
    assert_eq!(segments[0].to_string(), line);
    let pattern = Pattern::parse(". 1:2897(1448*2) ack 1").unwrap();
    let segments = pattern.segments().unwrap();
    assert_eq!(segments.iter().map(|s| s.seq).collect::<Vec<_>>(), [1, 1_449]);
    assert!(pattern.fits(1, &segments[1]) && !pattern.fits(0, &segments[1]));
    for (wrong, reason) in [
        ("S 0:0(1)", "ends at 1"),
        ("X 0:0(0)", "no flag"),
        ("S 0:0(0) ack", "of what"),
        ("S 0:0(0) ack x", "no number"),
        ("S 0:0(0) <mss>", "no option"),
        ("S 0:0(0) <mss 1", "end with"),
        ("S", "missing"),
    ] {
        let error = Pattern::parse(wrong).unwrap_err();
        assert!(error.contains(reason), "{wrong}: {error}");
    }
}
