"""Options that several commands share, in groups, and their kinds of value."""

import argparse
import re

OUTPUTS = "clip.mp4 (H.264), clip.gif, clip.png (a contact sheet), or clip (a folder of PNG frames)"


def add_target(parser: argparse.ArgumentParser) -> None:
    """The checkpoint that a command writes."""
    parser.add_argument("target", metavar="TARGET", help="a .safetensors file to write")
    parser.add_argument("--dtype", default="fp16", choices=("fp16", "bf16", "fp32", "keep"), help="(default: fp16)")
    parser.add_argument(
        "--layout",
        default="whole",
        choices=("whole", "pruned", "split"),
        help="whole: all parts; pruned: without the CLIP towers; split: a file for each part (default: whole)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace TARGET if it exists")
    parser.add_argument("--quiet", action="store_true", help="no bar, no notes: errors only")


def add_model(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the model")
    group.add_argument(
        "-m",
        "--model",
        default="embedded",
        metavar="FILE",
        help="a checkpoint (default: the small built-in model)",
    )
    group.add_argument(
        "--variant", default="auto", metavar="NAME", help="which released model it is, if FILE does not show it"
    )
    group.add_argument(
        "--extra",
        action="append",
        default=[],
        metavar="FILE",
        help="a file with parts that the model file lacks, such as CLIP towers; may be repeated",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    group.add_argument(
        "--dtype", default="auto", help="auto, fp32, fp16, bf16 (default: fp32 on cpu, else the file's half precision)"
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the result")
    group.add_argument(
        "-o", "--out", action="append", metavar="FILE", help=f"{OUTPUTS}; may be repeated (default: IMAGE-COMMAND.mp4)"
    )
    group.add_argument(
        "--size", type=size, metavar="WxH", help="multiples of 64 (default: the model's, portrait for a portrait image)"
    )
    group.add_argument("--frames", type=whole, metavar="N", help="(default: 16, as the models were trained)")
    group.add_argument(
        "--window", type=whole, metavar="N", help="frames of a longer clip that the model sees at once, such as 16"
    )
    group.add_argument(
        "--overlap", type=whole, metavar="N", help="frames that windows share (default: a quarter of --window)"
    )
    group.add_argument(
        "--fuse", metavar="HOW", help="how windows are averaged: pyramid, flat, overlap-linear (default: pyramid)"
    )
    group.add_argument(
        "--closed-loop", action="store_true", default=None, help="windows continue from the last frame to the first"
    )
    group.add_argument("--stride", type=whole, metavar="N", help="stride of the widest windows, 2, 4, ... (default: 1)")
    group.add_argument(
        "--freenoise", action="store_true", default=None, help="later windows get the noise of earlier ones, shuffled"
    )
    group.add_argument(
        "--then",
        action="append",
        metavar="PROMPT",
        help="prompt for the next stretch of a clip in windows; may be repeated",
    )
    group.add_argument(
        "--fps", type=_number, metavar="F", help="frame rate of the file, not of the motion (default: the model's)"
    )
    group.add_argument("--quiet", action="store_true", help="no bars, no notes: errors only")


def add_look(parser: argparse.ArgumentParser, with_image: bool) -> None:
    group = parser.add_argument_group("the look (defaults: what the model was published with)")
    group.add_argument(
        "--seed", type=whole, default=123, metavar="N", help="the same seed gives the same clip (default: 123)"
    )
    group.add_argument("--negative", default="", metavar="PROMPT", help="what not to show")
    if with_image:
        group.add_argument("--negative-image", metavar="IMAGE", help="a picture of what not to show")
        group.add_argument(
            "--reference",
            action="append",
            dest="references",
            metavar="IMAGE",
            help="another picture for the context; may be repeated",
        )
        group.add_argument(
            "--reference-weight",
            action="append",
            type=_number,
            dest="reference_weights",
            metavar="W",
            help="weight of all references, or of each in turn; the image's is 1 (default: 1)",
        )
    group.add_argument(
        "--steps", type=whole, metavar="N", help="denoising steps, usually 25 to 50, or 4 to 8 with T2V-Turbo"
    )
    group.add_argument(
        "--speed",
        metavar="HOW",
        help="reuse what changes little from step to step: balanced, fast, 'steps 0.5, inner 2' (default: exact)",
    )
    group.add_argument(
        "--cfg",
        type=_scale,
        metavar="S",
        help="how strongly the prompt guides; for a curve over the run, '0: 9, 0.5: 7.5, 1: 3'",
    )
    if with_image:
        group.add_argument(
            "--cfg-image", type=_scale, metavar="S", help="how strongly the image guides (default: the same as --cfg)"
        )
        group.add_argument(
            "--context-strength",
            type=_number,
            metavar="S",
            help="weight of the image relative to the text; 2 moves less than 1",
        )
        group.add_argument(
            "--fit", default="crop", metavar="HOW", help="how to fit the image: crop, pad, stretch (default: crop)"
        )
    group.add_argument(
        "--fs", type=whole, metavar="N", help="motion: smaller values move more; with the 256 model, larger ones do"
    )
    group.add_argument(
        "--motion",
        metavar="WEIGHTS",
        help="weights inside the UNet: 'middle 2, ends 1, strength 1.5, temperature 0.8, beside 0.5'",
    )
    if not with_image:
        group.add_argument("--motion-scale", type=_number, metavar="S", help="how much T2V-Turbo-v2 moves")
    group.add_argument(
        "--sketch",
        action="append",
        metavar="IMAGE@FRAME",
        help="a drawing that the clip follows, and its frame; may be repeated (or a video of drawings, one per frame)",
    )
    group.add_argument("--sketch-encoder", metavar="FILE", help="ToonCrafter's sketch encoder, for --sketch")
    group.add_argument(
        "--sketch-plan", metavar="PLAN", help="'strength 0.6, from 0, to 0.8, light, free', or any part of that"
    )
    group.add_argument("--eta", type=_number, metavar="E", help="0: no new noise between steps, 1: most")
    group.add_argument(
        "--guidance-limits",
        metavar="LIMITS",
        help="'from 0.1, to 0.8' says where in the run there is guidance; 'parallel 0, norm 0.1, momentum -0.5' "
        "projects it",
    )
    group.add_argument("--rescale", type=_number, metavar="R", help="0 to 1: reduces overexposure from a strong --cfg")
    group.add_argument("--spacing", metavar="HOW", help="timestep spacing: uniform, uniform_trailing")


def add_start(parser: argparse.ArgumentParser, maskable: bool) -> None:
    group = parser.add_argument_group("where it starts from")
    group.add_argument("--start-step", type=whole, metavar="M", help="leave out timesteps from M on; 940 moves more")
    group.add_argument(
        "--noise", metavar="KIND", help="noise that frames share: plain, 'mixed 1', 'progressive 1', 'residual 0.5'"
    )
    group.add_argument(
        "--noise-path", metavar="PATH", help="moves the shared noise: 'pan 0.25 0, zoom 1.2, turn 10, ease-in-out'"
    )
    group.add_argument(
        "--freeinit", type=whole, metavar="N", help="make the clip again N times, from its low frequencies"
    )
    group.add_argument("--initial-noise", metavar="FILE", help="an Analytic-Init file, for --start-step")
    if maskable:
        group.add_argument(
            "--strength", type=_number, metavar="S", help="below 1: stay closer to the still image, or to --original"
        )
        group.add_argument(
            "--original", metavar="VIDEO", help="a clip to change, with --strength or --mask; as long as the new one"
        )
        group.add_argument("--mask", metavar="IMAGE", help="white areas stay still, or as they are in --original")
        group.add_argument(
            "--strokes",
            metavar="TEXT",
            help="where things go, in pixels of IMAGE: '120,80 -> 180,90; 20,30 -> 40,30; radius 30; until 0.6; "
            "ease-in-out'; or for the whole image, as a camera sees it: 'camera pan 0.25 0, zoom 1.2, turn 10; until "
            "0.6'",
        )
        group.add_argument(
            "--brush", metavar="IMAGE", help="white areas may move, and do with --strokes; everything else stays still"
        )
        group.add_argument(
            "--brush-to", metavar="IMAGE", help="white is where the brushed area ends up, instead of --strokes"
        )
        group.add_argument(
            "--flow",
            metavar="FILE",
            help="a .npy file of [T or 1,H,W,2]: how far each pixel moves, instead of --strokes",
        )
        group.add_argument(
            "--lock", type=whole, metavar="FRAME", help="the frame that is exactly IMAGE: 0, or any other"
        )
        group.add_argument(
            "--paste", action="store_true", default=None, help="that frame matches IMAGE to the last pixel"
        )


def add_camera(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the camera path (one of --camera and --guide)")
    way = group.add_mutually_exclusive_group(required=True)
    way.add_argument(
        "--camera", metavar="MOTION", help="'orbit left', 'pan right + zoom in', or lines such as '1: yaw 10, z 0.2'"
    )
    way.add_argument("--guide", metavar="FILE", help="a video or a folder of views, one per frame, black where unknown")
    group.add_argument("--depth", metavar="FILE", help="a depth map of IMAGE (default: IMAGE is a plane)")
    group.add_argument(
        "--depth-kind", default="disparity", metavar="KIND", help="disparity: white is near; distance: white is far"
    )
    group.add_argument(
        "--depth-range",
        type=_number,
        default=8.0,
        metavar="R",
        help="farthest distance divided by nearest (default: 8)",
    )
    group.add_argument(
        "--field-of-view",
        type=_number,
        default=55.0,
        metavar="DEG",
        help="angle across IMAGE's longer side (default: 55)",
    )
    group.add_argument("--easing", default="smooth", metavar="HOW", help="smooth, linear, in, out (default: smooth)")
    group.add_argument(
        "--amount", type=_number, default=1.0, metavar="A", help="multiplies the whole motion (default: 1)"
    )


def whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None


def _scale(text: str) -> float | str:
    """A number, or a curve, which is checked with the other settings."""
    try:
        return float(text)
    except ValueError:
        if ":" in text:
            return text
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or a curve, such as '0: 9, 1: 3'") from None


def size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)\s*[xX*]\s*(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a width and a height, such as 512x320")
    return int(match[1]), int(match[2])
