"""Prices: every one dated, sourced and of a GPU that the catalogue knows; lists of strangers read within bounds; nothing stands in for a price."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vram import pricing
from vram.costs.book import PriceBook, read_book
from vram.costs.money import nanodollars, parse_usd, show_usd
from vram.costs.owned import OwnedCard, parse_lifetime
from vram.costs.price import Price
from vram.costs.rent import rent
from vram.costs.skypilot import MOST_ROWS, parse
from vram.errors import PriceListError, UsageError
from vram.hardware.catalogue import catalogue
from vram.pricing import catalogue_name
from vram.settings import VARIABLES
from vram.sources.price_lists import built_in_prices

HEAD = "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Price,Region,GpuInfo,SpotPrice\n"
# Rows as the lists of five providers have them (github.com/skypilot-org/skypilot-catalog, catalogs/v8), each with its own way to write a GPU.
NEBIUS = HEAD + (
    "cpu-d3_4vcpu-16gb,,0,4,16,0.0992,eu-north1,,\n"
    "gpu-h100-sxm_1gpu-16vcpu-200gb,H100,1,16,200,2.95,eu-north1,"
    "\"{'Gpus': [{'Name': 'H100', 'Manufacturer': 'NVIDIA', 'Count': 1, 'MemoryInfo': {'SizeInMiB': 81920}}], 'TotalGpuMemoryInMiB': 81920}\",1.25\n"
    "gpu-h100-sxm_8gpu-128vcpu-1600gb,H100,8,128,1600,23.60,eu-north1,"
    "\"{'Gpus': [{'Name': 'H100', 'Manufacturer': 'NVIDIA', 'Count': 8, 'MemoryInfo': {'SizeInMiB': 81920}}], 'TotalGpuMemoryInMiB': 655360}\",10.00\n"
    "gpu-l40s-a_1gpu-16vcpu-64gb,L40S,1,16,64,1.7468,eu-north1,"
    "\"{'Gpus': [{'Name': 'L40S', 'Manufacturer': 'NVIDIA', 'Count': 1, 'MemoryInfo': {'SizeInMiB': 49152}}], 'TotalGpuMemoryInMiB': 49152}\",\n"
    "gpu-l40s-a_1gpu-8vcpu-32gb,L40S,1,8,32,1.5484,eu-north1,"
    "\"{'Gpus': [{'Name': 'L40S', 'Manufacturer': 'NVIDIA', 'Count': 1, 'MemoryInfo': {'SizeInMiB': 49152}}], 'TotalGpuMemoryInMiB': 49152}\",\n"
    "gpu-b200-sxm_8gpu-160vcpu-1792gb,B200,8,160,1792,44.00,us-central1,"
    "\"{'Gpus': [{'Name': 'B200', 'Manufacturer': 'NVIDIA', 'Count': 8, 'MemoryInfo': {'SizeInMiB': 184320}}], 'TotalGpuMemoryInMiB': 1474560}\",\n"
)
VERDA = (
    "InstanceType,UpstreamCloudId,vCPUs,MemoryGiB,AcceleratorName,AcceleratorCount,GpuInfo,Region,Price,SpotPrice\n"
    '2B300.60V,2B300.60V,60.0,550.0,B300,2.0,"{""Gpus"": [{""Name"": ""B300"", ""Count"": 2, ""MemoryInfo"": {""SizeInMiB"": 268800}}], '
    '""TotalGpuMemoryInMiB"": 537600}",FIN-03,,4.893\n'
    '1A100.22V,1A100.22V,22.0,120.0,A100-80GB,1.0,"{""Gpus"": [{""Name"": ""A100-80GB"", ""Count"": 1, ""MemoryInfo"": {""SizeInMiB"": 81920}}], '
    '""TotalGpuMemoryInMiB"": 81920}",FIN-01,1.29,0.4515\n'
    '1V100.6V,1V100.6V,6.0,23.0,V100,1.0,"{""Gpus"": [{""Name"": ""V100"", ""Count"": 1, ""MemoryInfo"": {""SizeInMiB"": 16384}}], '
    '""TotalGpuMemoryInMiB"": 16384}",FIN-01,0.1381,\n'
    "CPU.4V.16G,CPU.4V.16G,4.0,16.0,,,,FIN-01,0.0279,0.0098\n"
)
HYPERSTACK = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,GpuInfo,Price,Region,SpotPrice\n"
    "n3-H100x8-NVLink,H100-80G-PCIe-NVLink,8,252,1440.0,\"{'Gpus': [{'Name': 'H100-80G-PCIe-NVLink', 'Manufacturer': null, 'Count': 8, "
    "'MemoryInfo': {'SizeInMiB': 81920}}], 'TotalGpuMemoryInMiB': 655360}\",15.6,CANADA-1,\n"
    "n3-H100-SXM5x8,H100-80G-SXM5,8,192,960.0,\"{'Gpus': [{'Name': 'H100-80G-SXM5', 'Manufacturer': null, 'Count': 8, "
    "'MemoryInfo': {'SizeInMiB': 81920}}], 'TotalGpuMemoryInMiB': 655360}\",19.2,US-1,\n"
    "n3-A100x1,A100-80G-PCIe,1,28,120.0,\"{'Gpus': [{'Name': 'A100-80G-PCIe', 'Manufacturer': null, 'Count': 1, "
    "'MemoryInfo': {'SizeInMiB': 81920}}], 'TotalGpuMemoryInMiB': 81920}\",1.35,CANADA-1,\n"
    "n3-RTX-A6000x1,RTX-A6000,1,28,58.0,\"{'Gpus': [{'Name': 'RTX-A6000', 'Manufacturer': null, 'Count': 1, "
    "'MemoryInfo': {'SizeInMiB': 49152}}], 'TotalGpuMemoryInMiB': 49152}\",0.5,CANADA-1,\n"
)
RUNPOD = (
    "InstanceType,AcceleratorName,AcceleratorCount,vCPUs,MemoryGiB,Region,SpotPrice,Price,AvailabilityZone,GpuInfo\n"
    "8x_A100-80GB-SXM_SECURE,A100-80GB-SXM,8.0,128.0,936.0,SE,12.72,12.72,EU-SE-1,\"{'Gpus': [{'Name': 'A100 SXM', 'Manufacturer': 'Nvidia', "
    "'Count': 8, 'MemoryInfo': {'SizeInMiB': 80}}], 'TotalGpuMemoryInMiB': 640}\"\n"
    "1x_A100-80GB_SECURE,A100-80GB,1.0,8.0,117.0,IN,1.39,1.39,AP-IN-1,\"{'Gpus': [{'Name': 'A100 PCIe', 'Manufacturer': 'Nvidia', "
    "'Count': 1, 'MemoryInfo': {'SizeInMiB': 80}}], 'TotalGpuMemoryInMiB': 80}\"\n"
    "2x_RTX5090_SECURE,RTX5090,2.0,12.0,92.0,SE,1.98,1.98,EU-SE-2,\"{'Gpus': [{'Name': 'RTX 5090', 'Manufacturer': 'Nvidia', "
    "'Count': 2, 'MemoryInfo': {'SizeInMiB': 32}}], 'TotalGpuMemoryInMiB': 64}\"\n"
    "7x_RTX4000-Ada_SECURE,RTX4000-Ada,7.0,56.0,329.0,US,1.96,1.96,US-MD-1,\"{'Gpus': [{'Name': 'RTX 4000 Ada', 'Manufacturer': 'Nvidia', "
    "'Count': 7, 'MemoryInfo': {'SizeInMiB': 20}}], 'TotalGpuMemoryInMiB': 140}\"\n"
)


def test_every_price_of_the_catalogue_is_of_a_gpu_that_it_knows():
    """Names are the GPU catalogue's own, every price has its day and an address, and no two rows say the same thing."""
    names = {e.name for e in catalogue().entries}
    book = read_book(built_in_prices(), "prices.json")
    assert len(book.prices) >= 60
    assert {p.gpu for p in book.prices} <= names
    assert all("https://" in p.source and p.as_of and 0.05 < p.usd_per_gpu_hour < 15 for p in book.prices)
    assert len({(p.gpu, p.provider, p.kind) for p in book.prices}) == len(book.prices)
    assert {p.gpu for p in pricing.purchases()} <= names
    assert all(p.source.startswith("https://") and p.as_of for p in pricing.purchases())


def test_spot_is_below_on_demand_of_the_same_provider():
    """A check on slips of the hand: who sells both sells what may be taken away for less."""
    book = read_book(built_in_prices(), "prices.json")
    on_demand = {(p.gpu, p.provider): p.usd_per_gpu_hour for p in book.prices if p.kind == "on-demand"}
    spot = [p for p in book.prices if p.kind == "spot"]
    assert len(spot) >= 8
    assert all(p.usd_per_gpu_hour < on_demand[p.gpu, p.provider] for p in spot)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            NEBIUS,
            {
                ("H100 SXM 80GB", "on-demand"): 2.95,
                ("H100 SXM 80GB", "spot"): 1.25,
                ("L40S 48GB", "on-demand"): 1.5484,
                ("B200 180GB", "on-demand"): 5.5,
            },
        ),
        (
            VERDA,
            {
                ("B300 288GB", "spot"): 2.4465,
                ("A100 SXM 80GB", "on-demand"): 1.29,
                ("A100 SXM 80GB", "spot"): 0.4515,
                ("V100 SXM2 16GB", "on-demand"): 0.1381,
            },
        ),
        (
            HYPERSTACK,
            {
                ("H100 PCIe 80GB", "on-demand"): 1.95,
                ("H100 SXM 80GB", "on-demand"): 2.4,
                ("A100 PCIe 80GB", "on-demand"): 1.35,
                ("RTX A6000 48GB", "on-demand"): 0.5,
            },
        ),
        (
            RUNPOD,
            {
                ("A100 SXM 80GB", "on-demand"): 1.59,
                ("A100 PCIe 80GB", "on-demand"): 1.39,
                ("RTX 5090 32GB", "on-demand"): 0.99,
                ("RTX 4000 Ada 20GB", "on-demand"): 0.28,
            },
        ),
    ],
    ids=["nebius", "verda", "hyperstack", "runpod"],
)
def test_lists_of_providers_are_read_as_they_are(data, expected):
    """Real rows of four lists, each written in its own way: the lowest price for one GPU, under the catalogue's name."""
    found = parse(data.encode(), "X", catalogue_name, as_of="2026-11-27", source="s")
    got = {(p.gpu, p.kind): p.usd_per_gpu_hour for p in found.prices if not (data is RUNPOD and p.kind == "spot")}
    assert got == expected
    assert not found.unknown


ODD = HEAD + (
    "a,H100,1,1,1,-3,r,,\nb,H100,1,1,1,nan,r,,\nc,H100,1,1,1,inf,r,,\nd,H100,0,1,1,3,r,,\ne,H100,0.5,1,1,3,r,,\nf,H100,1e9,1,1,3,r,,\n"
    ",H100,1,1,1,3,r,,\ng,H100,1,1,1,1e300,r,,\nh,H100,x,1,1,3,r,,\ni,Vega-\x1b[31mX,1,1,1,3,r,,\nj,H100\n,,,\n\nk,H100,1,1,1,0,r,,1_0\n"
)


def test_odd_rows_are_counted_and_left_out():
    """No negative, infinite or absent price is believed, and no part of a GPU."""
    found = parse(ODD.encode(), "X", catalogue_name, as_of="2026-11-27", source="s")
    assert found.prices == ()
    assert found.odd >= 10
    assert list(found.unknown) == ["Vega-\x1b[31mX"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"<html>not found</html>",
        b"a,b,c\n1,2,3\n",
        b'InstanceType,AcceleratorName\n"open',
        (HEAD + '"' + "x" * 200_000).encode(),
        b"\xff\xfe" * 50,
    ],
    ids=["empty", "zeros", "html", "other", "open", "huge-field", "bytes"],
)
def test_what_is_no_list_is_said_to_be_none(data):
    """A page of an error, another table, bytes: each a clear error with a hint."""
    with pytest.raises(PriceListError) as caught:
        parse(data, "X", catalogue_name, as_of="2026-11-27", source="s")
    assert caught.value.hint


def test_a_list_without_end_ends():
    """More rows than any provider has are refused, in bounded time."""
    with pytest.raises(PriceListError, match="rows"):
        parse((HEAD + "\n" * (MOST_ROWS + 5)).encode().replace(b"\n\n", b"\n,\n,\n")[: 2**25], "X", lambda _a, _b: None, as_of="2026-11-27", source="s")


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=400), st.lists(st.text(max_size=30), max_size=30))
def test_any_bytes_are_a_list_or_a_clear_error(data, cells):
    """Fuzz: whatever comes, prices that make sense come out, or a PriceListError."""
    for body in (data, HEAD.encode() + data, (HEAD + ",".join(cells)).encode("utf-8", errors="replace")):
        try:
            found = parse(body, "X", catalogue_name, as_of="2026-11-27", source="s")
        except PriceListError:
            continue
        assert all(0 < p.usd_per_gpu_hour <= 100 for p in found.prices)


class Lists(ThreadingHTTPServer):
    """Serves price lists: `bodies` by path; `status` and `endless` for misbehaviour."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies, self.status, self.endless, self.asked = {}, 200, False, []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.asked.append((self.path, dict(self.headers)))
        body = self.server.bodies.get(self.path)
        if self.server.endless:
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(HEAD.encode() + b"x," * 30_000)
            except OSError:
                return
        self.send_response(404 if body is None else self.server.status)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")


@pytest.fixture
def lists(tmp_path, monkeypatch):
    for name in {v.name for v in VARIABLES} | {n for n in os.environ if n.upper().endswith("_PROXY")}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("VRAM_HUB_REQUEST_SECONDS", "5")
    with Lists() as server:
        monkeypatch.setenv("VRAM_PRICES_URL", f"http://127.0.0.1:{server.server_port}/v8")
        yield server


def test_refreshed_prices_replace_those_of_the_same_provider(lists, tmp_path):
    """What is fetched is kept, dated today, laid over the built-in list; other providers' prices stay; a second refresh keeps both."""
    lists.bodies = {"/v8/nebius/vms.csv": NEBIUS.replace("2.95", "3.33").encode(), "/v8/verda/vms.csv": VERDA.encode()}
    before = pricing.price_book()
    prices, notes, path = pricing.refresh_prices(["nebius"])
    assert path == str(tmp_path / "data/vram/prices.json")
    assert {p.usd_per_gpu_hour for p in prices if p.gpu == "H100 SXM 80GB"} == {23.6 / 8, 1.25}
    assert notes[0].startswith("Nebius: 4 prices")
    book = pricing.price_book()
    assert [p.as_of for p in book.of("L40S 48GB", provider="nebius")] == [prices[0].as_of]
    assert book.of("H200 SXM 141GB", provider="Nebius") == ()  # the new list does not have it
    assert book.of("H100 SXM 80GB", provider="Lambda") == before.of("H100 SXM 80GB", provider="Lambda")
    pricing.refresh_prices(["verda"])
    assert len(pricing.price_book().of("A100 SXM 80GB", provider="Verda")) == 2
    assert len(pricing.price_book().of("L40S 48GB", provider="Nebius")) == 1
    assert all("Authorization" not in headers for _, headers in lists.asked)
    assert [p.name for p in (tmp_path / "data/vram").iterdir()] == ["prices.json"]


def test_a_refresh_that_fails_changes_nothing(lists, tmp_path):
    """A missing list, a broken one, a server that errs or never ends, no network: a clear error, and the file as it was."""
    lists.bodies = {"/v8/nebius/vms.csv": NEBIUS.encode()}
    pricing.refresh_prices(["nebius"])
    file = tmp_path / "data/vram/prices.json"
    kept = file.read_bytes()
    lists.bodies["/v8/verda/vms.csv"] = b"<html>"
    for names, words in ((["verda"], "no price list"), (["nebius", "nowhere"], "there is no price list"), (["../etc"], "no name"), (["a b"], "no name")):
        with pytest.raises(PriceListError, match=words) as caught:
            pricing.refresh_prices(names)
        assert caught.value.hint
    with pytest.raises(UsageError, match="gcp"):
        pricing.refresh_prices(["gcp"])
    lists.status = 500
    with pytest.raises(PriceListError, match="500"):
        pricing.refresh_prices(["nebius"])
    lists.status, lists.endless = 200, True
    with pytest.raises(PriceListError, match="longer than"):
        pricing.refresh_prices(["nebius"])
    assert file.read_bytes() == kept


def test_offline_is_said(lists, monkeypatch):
    """Nobody answers, or nobody may be asked: the error names the variable and the way without a network."""
    monkeypatch.setenv("VRAM_PRICES_URL", "http://127.0.0.1:9/v8")
    with pytest.raises(PriceListError) as caught:
        pricing.refresh_prices(["nebius"])
    assert "VRAM_PRICES_URL" in caught.value.hint
    assert "--price" in caught.value.hint
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PriceListError, match="HF_HUB_OFFLINE"):
        pricing.refresh_prices(["nebius"])
    assert lists.asked == []


ROW = '{"rental": [{"gpu": "x", "usd_per_gpu_hour": %s, "provider": "p", "kind": "%s", "as_of": "2026-01-01", "source": "s"}]}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"rental": 3}',
        '{"rental": [3]}',
        '{"rental": [{"gpu": "x"}]}',
        "[" * 100_000,
        ROW % (-1, "spot"),
        ROW % (1, "free"),
        ROW % ("1" + "0" * 400, "spot"),
    ],
    ids=["empty", "cut", "list", "number", "numbers", "fields", "deep", "negative", "kind", "endless"],
)
@pytest.mark.usefixtures("lists")
def test_a_damaged_file_is_named(tmp_path, text):
    """What another program wrote into the fetched file is refused with the file's name and what to type."""
    (tmp_path / "data/vram").mkdir(parents=True)
    (tmp_path / "data/vram/prices.json").write_text(text)
    with pytest.raises((PriceListError, UsageError), match=r"prices\.json") as caught:
        pricing.price_book()
    assert caught.value.hint


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" + "0" * 5000], ids=["400", "5000"])
@pytest.mark.parametrize("name", ["usd_per_gpu_hour", "purchase_usd", "resale_usd", "utilisation", "watts", "usd_per_kwh"])
@pytest.mark.usefixtures("lists")
def test_a_number_without_end_is_no_price(tmp_path, name, number):
    """TOML may write more digits than a float, or Python, holds."""
    (tmp_path / "config/vram").mkdir(parents=True)
    head = "[[price]]" if name == "usd_per_gpu_hour" else f"[[owned]]{'' if name == 'purchase_usd' else chr(10) + 'purchase_usd = 700'}"
    (tmp_path / "config/vram/prices.toml").write_text(f'{head}\ngpu = "RTX 3090"\n{name} = {number}\n')
    with pytest.raises((PriceListError, UsageError), match=r"prices\.toml") as caught:
        pricing.user_prices()
    assert caught.value.hint


def test_names_in_a_price_list_do_not_steer_the_terminal():
    """Control characters of a fetched file are shown as what they are; a day that is neither stated nor read is refused."""
    row = {"gpu": "x", "usd_per_gpu_hour": 1, "provider": "\x1b[31mp", "kind": "spot", "as_of": "2026-01-01", "source": "\x1b]0;s", "note": "\r"}
    found = read_book({"rental": [row]}, "list").prices[0]
    assert (found.provider, found.source, found.note) == ("\\x1b[31mp", "\\x1b]0;s", "\\r")
    with pytest.raises(UsageError, match="day"):
        read_book({"rental": [{**row, "dated": "felt"}]}, "list")


def price(gpu="G", usd=1.0, provider="p", kind="on-demand"):
    return Price(gpu=gpu, usd_per_gpu_hour=usd, provider=provider, kind=kind, as_of="2026-01-01", source="s")


def test_the_lower_median_of_offers_is_taken():
    """Neither a bargain nor a rip-off decides; of an even number the lower middle, so that it is somebody's real price."""
    book = PriceBook(prices=tuple(price(usd=u, provider=f"p{u}") for u in (9, 1, 3, 4)))
    offers = book.offers("G")
    assert (offers.taken.usd_per_gpu_hour, offers.low.usd_per_gpu_hour, offers.high.usd_per_gpu_hour, offers.count) == (3, 1, 9, 4)
    assert book.offers("H") is None
    with pytest.raises(UsageError) as caught:
        book.check_provider("p-3x")
    assert "p3" in caught.value.hint


def test_a_gpu_without_a_price_makes_the_rent_unknown():
    """One GPU without a price and there is no sum; the hint says what to give. The user's word goes first, kind by kind."""
    book = PriceBook(prices=(price(usd=2.5), price(gpu="H", kind="reserved")))
    half = rent(["G", "G", "H"], book)
    assert (half.nanodollars_per_hour, half.usd_per_hour, half.missing) == (None, None, ("H",))
    assert half.hint == "no price known for H: give --price (known are only prices of the kind reserved: --kind reserved)"
    assert rent(["G", "G", "H"], book, own={"H": price(gpu="H", usd=0.1)}).nanodollars_per_hour == 5_100_000_000
    assert rent(["G", "G", "H"], book, price_usd=0.3).nanodollars_per_hour == 900_000_000
    assert rent(["G", "H"], book, fleet_usd=7.01, price_usd=0.3).nanodollars_per_hour == 7_010_000_000


def test_sums_of_money_do_not_drift():
    """0.1 + 0.2 is 0.3 here, and 4,096 GPUs at $0.1381 are $565.6576 to the last digit."""
    assert nanodollars(0.1) + nanodollars(0.2) == nanodollars(0.3)
    assert rent(["G"] * 4096, PriceBook(prices=(price(usd=0.1381),))).nanodollars_per_hour == 565_657_600_000


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "1e9", "two", "1_0", "$", "--price", "9" * 50, "0x10"])
def test_absurd_prices_are_refused(text):
    """Each with what is possible."""
    with pytest.raises(UsageError) as caught:
        parse_usd(text, "--price", 100)
    assert caught.value.hint


def test_an_owned_card_by_hand():
    """$1,600 over 4 years of 8,766 hours, half of them switched on: $0.09126; and 450 W at $0.30 are $0.135 more."""
    card = OwnedCard(purchase_usd=1600, lifetime_years=4, utilisation=0.5, watts=450, usd_per_kwh=0.30)
    assert card.capital_usd_per_hour == pytest.approx(0.0912617, abs=1e-6)
    assert card.power_usd_per_hour == pytest.approx(0.135)
    assert OwnedCard(purchase_usd=8766, resale_usd=4383, lifetime_years=1).usd_per_hour == pytest.approx(0.5)
    told = card.price("RTX 4090 24GB").told
    assert "$1,600 over 4 years at 50% + 450 W at $0.300/kWh" in told


def test_an_owned_h100_comes_near_what_others_reckon():
    """$30,000 over 4 to 5 years and 1.2 kW with its share of the machine at $0.08: SemiAnalysis says $1.30 to $1.69 all told (2026-04-03)."""
    low, high = (OwnedCard(purchase_usd=usd, lifetime_years=years, watts=1200, usd_per_kwh=0.08).usd_per_hour for usd, years in ((30_000, 5), (45_000, 4)))
    tco = [p.usd_per_gpu_hour for p in pricing.price_book().of("H100 SXM 80GB", kind="tco")]
    assert low < min(tco) < max(tco) < high * 1.3


@pytest.mark.parametrize(("text", "years"), [("3y", 3), ("18mo", 1.5), ("8766h", 1), ("730.5d", 2), ("5 years", 5), ("2", 2)])
def test_lifetimes_as_people_write_them(text, years):
    """Years, months, days and hours."""
    assert parse_lifetime(text) == pytest.approx(years)


@pytest.mark.parametrize("text", ["", "0y", "-1y", "100y", "3 weeks", "nan", "1e3y", "y"])
def test_lifetimes_that_are_none_are_refused(text):
    """No card lives so long, or so short."""
    with pytest.raises(UsageError):
        parse_lifetime(text)


@pytest.mark.parametrize(
    "wrong",
    [{"purchase_usd": -1}, {"purchase_usd": float("nan")}, {"resale_usd": 2000}, {"utilisation": 0}, {"utilisation": 1.1}, {"watts": -1}, {"usd_per_kwh": 1000}, {"lifetime_years": 0}],
)  # fmt: skip
def test_cards_that_make_no_sense_are_refused(wrong):
    """Each amount has its bounds."""
    with pytest.raises(UsageError):
        OwnedCard(**{"purchase_usd": 1000, **wrong})


@pytest.mark.usefixtures("lists")
def test_the_users_own_file(tmp_path):
    """Prices and cards of one's own, with one price of electricity for all; what is wrong in it is named with its place."""
    file = tmp_path / "config/vram/prices.toml"
    file.parent.mkdir(parents=True)
    file.write_text('usd_per_kwh = 0.30\n[[price]]\ngpu = "4090"\nusd_per_gpu_hour = 0.35\n[[owned]]\ngpu = "RTX 3090"\npurchase_usd = 700\nlifetime = "2y"\n')
    own = pricing.user_prices().by_gpu
    assert own["RTX 4090 24GB"].usd_per_gpu_hour == 0.35
    # The catalogue's 350 W at $0.30, and $700 over 17,532 hours.
    assert own["RTX 3090 24GB"].usd_per_gpu_hour == pytest.approx(0.105 + 700 / 17_532)
    for text, words in (
        ("[[price]]\ngpu = 3\n", "price 1 names no GPU"),
        ('[[price]]\ngpu = "4090"\nusd_per_gpu_hour = -1\n', "price 1: the price of"),
        ('[[price]]\ngpu = "4090"\n', "price 1: the price of"),
        ('[[price]]\ngpu = "no such card"\nusd_per_gpu_hour = 1\n', "price 1: 'no such card'"),
        ('[[owned]]\ngpu = "4090"\npurchase_usd = 1\nlifetime = "9 weeks"\n', "owned 1: '9 weeks'"),
        ('[[owned]]\ngpu = "4090"\ncolour = 1\n', "owned 1: 'colour' is unknown"),
        ("prices = 1\n", "'prices' is unknown"),
        ("price = 1\n", "no list of tables"),
        ("price = [1]\n", "price 1 is no table"),
        ("x", r"prices\.toml"),
    ):
        file.write_text(text)
        with pytest.raises((UsageError, PriceListError), match=words) as caught:
            pricing.user_prices()
        assert caught.value.hint


@pytest.mark.parametrize(
    ("usd", "shown"), [(0, "$0.00"), (2.95, "$2.95"), (1234.5, "$1,234"), (0.1381, "$0.138"), (0.02713, "$0.0271"), (1.5e-7, "$0.000000150")]
)
def test_dollars_for_people(usd, shown):
    """Cents from a dollar on, three digits below."""
    assert show_usd(usd) == shown


def vram(*args, **env):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "140", **env}
    return subprocess.run([sys.executable, "-m", "vram", *args], capture_output=True, text=True, timeout=60, check=False, env=environment)


@pytest.mark.usefixtures("lists")
def test_the_command_lists_prices_with_their_days():
    """Human, JSON by its schema, and a GPU of which no price is known."""
    done = vram("prices", "H100", "SXM")
    assert done.returncode == 0, done.stderr
    assert "2.95  Nebius" in done.stdout
    assert "2026-11-23" in done.stdout
    assert "https://github.com/skypilot-org" in done.stdout
    schema = json.loads((files("vram") / "schemas" / "prices.json").read_text())
    for words in ((), ("4090",), ("M4 Max 128GB",)):
        done = vram("prices", *words, "--json")
        assert done.returncode == 0, done.stderr
        jsonschema.validate(json.loads(done.stdout), schema)
    assert json.loads(done.stdout)["notes"] == ["no price known for M4 Max 128GB: give --price"]
    for wrong in (("--kind", "free"), ("--provider", "nobody"), ("no such card",)):
        done = vram("prices", *wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert "hint: " in done.stderr


def test_the_command_refreshes(lists):
    """It says what it read and where it keeps it; offline it is an error, not a traceback."""
    lists.bodies = {"/v8/nebius/vms.csv": NEBIUS.encode()}
    done = vram("prices", "refresh", "nebius", HF_HUB_OFFLINE="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Nebius: 4 prices of 6 rows\n4 prices kept in ")
    done = vram("prices", "refresh", "nebius")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: HF_HUB_OFFLINE forbids the network\nhint: ")
