"""The example workflows, one function each: its graph and its note."""

from __future__ import annotations

from collections.abc import Callable

from drawing_examples import motion_brush
from editing_examples import merge_parts, refine_large, sketch_inbetween, video_to_video
from example_parts import (
    ANIMATE,
    DUSK_NOTE,
    EMBEDDED_FIGURES,
    FLIP_NOTE,
    FLY,
    GENERATE,
    IMAGE_NOTE,
    INTERPOLATE,
    LORA,
    SEED,
    TURBO,
    batch,
    download,
    draw,
    dusk,
    embedded_note,
    file_note,
    flip,
    guide,
    load,
    picture,
    prompts,
    sample,
    save,
    stitch,
    write,
)
from graph import Graph
from guidance_examples import guidance_over_the_run
from long_examples import endless_loop, film, keyframes, long_video


def animate_image(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "the camera pans left")
    guided = guide(graph, loaded, image, texts, "animate")
    save(graph, sample(graph, loaded, guided), "animate_image", 4)
    graph.note(
        f"""
An image and a prompt become 16 frames.

{embedded_note(ANIMATE)} {IMAGE_NOTE}

- **More motion:** lower *motion (fs)* (512 and 1024 models), or raise it (256 model). The loader shows what it means
  for the loaded model.
- **Closer to the image:** raise *image guidance* above *text guidance*, or *strength* in **DynamiCrafter Image
  Context**.
- **Faster:** 25 *steps* is often enough; the released models were published with 50.
- `width` and `height` 0 mean the model's own size, portrait for a portrait image.
""",
        1,
        "Animate an image",
        330,
    )


def dual_guidance_compare(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "the camera zooms in")
    guided = guide(graph, loaded, image, texts, "animate")
    noise = graph.add("RandomNoise", 2, noise_seed=SEED)["NOISE"]
    ddim = graph.add("DynamiCrafterDDIM", 2)["SAMPLER"]
    sigmas = graph.add("DynamiCrafterSchedule", 2, model=loaded["MODEL"])["SIGMAS"]
    rows = []
    for text_scale in (2.0, 5.0):
        row = []
        for image_scale in (1.5, 4.0):
            guider = graph.add(
                "DynamiCrafterGuider",
                3,
                title=f"text {text_scale:g}, image {image_scale:g}",
                model=loaded["MODEL"],
                positive=guided["positive"],
                negative=guided["negative"],
                cfg_text=text_scale,
                cfg_image=image_scale,
            )
            sampled = graph.add(
                "SamplerCustomAdvanced",
                4,
                noise=noise,
                guider=guider["GUIDER"],
                sampler=ddim,
                sigmas=sigmas,
                latent_image=guided["LATENT"],
            )
            row.append(graph.add("DynamiCrafterDecode", 4, vae=loaded["VAE"], latent=sampled["output"])["IMAGE"])
        rows.append(stitch(graph, *row, "right", f"Row: text {text_scale:g}"))
    save(graph, stitch(graph, *rows, "down", "Grid"), "dual_guidance_compare", 5)
    graph.note(
        f"""
The same noise four times, guided differently: *text guidance* increases downwards (2, 5), *image guidance* to the right
(1.5, 4). High image guidance keeps the picture and moves less; high text guidance follows the prompt and may
change the picture.

{embedded_note(ANIMATE)} {IMAGE_NOTE}

The sampler is split into its parts here, so that noise, sampler and schedule are shared. Any ComfyUI sampler can
replace **DynamiCrafter DDIM**.
""",
        1,
        "Compare text and image guidance",
        330,
    )


def interpolate_two_images(graph: Graph) -> None:
    loaded = load(graph)
    first = picture(graph, "First image")
    last = dusk(graph, first, "Last image (the first, darkened)")
    texts = prompts(graph, loaded["CLIP"], "it gets dark")
    guided = guide(graph, loaded, first, texts, "interpolate", end_image=last)
    save(graph, sample(graph, loaded, guided), "interpolate_two_images", 4)
    graph.note(
        f"""
From one image to another in 16 frames.

{embedded_note(INTERPOLATE)} It must be an interpolation model or ToonCrafter.

{DUSK_NOTE}

For more frames between the images, raise `frames` gradually; the models were trained on 16.
""",
        1,
        "Interpolate",
        290,
    )


def looping_video(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "it gets bright")
    guided = guide(graph, loaded, image, texts, "loop")
    frames = sample(graph, loaded, guided)
    thrice = graph.add("RepeatImageBatch", 4, title="Three times in a row", image=frames, amount=3)["IMAGE"]
    save(graph, thrice, "looping_video", 4)
    graph.note(
        f"""
A clip that ends where it begins: the image is both the first and the last frame, and **DynamiCrafter Decode** drops the
last, which would make the loop pause for a frame. 15 of 16 frames are left; here they play three times.

{embedded_note(INTERPOLATE)} It must be an interpolation model. {IMAGE_NOTE}
""",
        1,
        "Loop",
        260,
    )


def native_ksampler_with_lora(graph: Graph) -> None:
    loaded = load(graph)
    lora = graph.add("LoraLoaderModelOnly", 0, bypassed=True, model=loaded["MODEL"], lora_name=LORA)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "it gets dark")
    guided = guide(graph, loaded, image, texts, "animate")
    sampled = graph.add(
        "KSampler",
        3,
        model=lora["MODEL"],
        positive=guided["positive"],
        negative=guided["negative"],
        latent_image=guided["LATENT"],
        seed=SEED,
        steps=EMBEDDED_FIGURES["steps"],
        cfg=EMBEDDED_FIGURES["cfg"],
        sampler_name="euler",
        scheduler="simple",
    )
    frames = graph.add("VAEDecode", 3, samples=sampled["LATENT"], vae=loaded["VAE"])["IMAGE"]
    save(graph, frames, "native_ksampler_with_lora", 4)
    graph.note(
        f"""
The model is ComfyUI's own MODEL: any sampler and scheduler works on its noise schedule, and so do LoRA loaders, merges
and torch.compile. `euler` with `simple` is the published DDIM without fresh noise; `euler_ancestral` is close to the
published one with it.

{embedded_note(ANIMATE)} {IMAGE_NOTE}

**The LoRA** is bypassed until you have one in `models/loras`, made with `dynamicrafter train` or ComfyUI's **Train
LoRA**: then choose it in **Load LoRA**, and press Ctrl+B there.

KSampler guides by text and image together and does not rescale; **DynamiCrafter Sampler** guides by each separately and
rescales. KSampler does not use the model's own defaults either: released models were published with 50 steps and a
`cfg` of 7.5.
""",
        1,
        "ComfyUI's own sampler, with a LoRA",
        370,
    )


def text_to_video(graph: Graph) -> None:
    loaded = load(graph, GENERATE)  # the embedded model needs an image
    positive, negative = prompts(graph, loaded["CLIP"], "a sailing boat on the sea at sunset, waves, oil painting")
    empty = graph.add("EmptyLatentImage", 2, title="16 frames", width=512, height=320, batch_size=16)
    sampler = graph.add(
        "DynamiCrafterSampler",
        3,
        model=loaded["MODEL"],
        positive=positive,
        negative=negative,
        latent=empty["LATENT"],
        seed=SEED,
    )
    frames = graph.add("DynamiCrafterDecode", 3, vae=loaded["VAE"], latent=sampler["LATENT"])["IMAGE"]
    save(graph, frames, "text_to_video", 4, fps=10.0)
    graph.note(
        f"""
A prompt alone becomes 16 frames: the `batch_size` of **Empty Latent Image** is the number of frames.

The model is {file_note(GENERATE)}. VideoCrafter1's text-to-video models work the same way.

*Image guidance* has no effect here: these models see no image.
""",
        2,
        "Text to video",
        230,
    )


def text_to_video_in_4_steps(graph: Graph) -> None:
    loaded = load(graph, GENERATE)
    turbo = graph.add("DynamiCrafterLoadParts", 0, unet=TURBO, models=[download(TURBO)])
    text = "a sailing boat on the sea at sunset, waves, oil painting"
    empty = graph.add("EmptyLatentImage", 2, title="16 frames", width=512, height=320, batch_size=16)
    sampler = graph.add(
        "DynamiCrafterSampler",
        3,
        model=turbo["MODEL"],
        positive=write(graph, loaded["CLIP"], text, "Prompt"),
        negative=write(graph, loaded["CLIP"], "", "Negative prompt (not used)"),
        latent=empty["LATENT"],
        seed=SEED,
        steps=4,
    )
    frames = graph.add("DynamiCrafterDecode", 3, vae=loaded["VAE"], latent=sampler["LATENT"])["IMAGE"]
    save(graph, frames, "text_to_video_in_4_steps", 4, fps=8.0)
    graph.note(
        f"""
T2V-Turbo-v2 is VideoCrafter2, distilled: 4 steps of one pass each, instead of 50 steps of two.

Its UNet is {file_note(TURBO)}. The text encoder and the autoencoder come from VideoCrafter2: {file_note(GENERATE)}.

- **More detail:** 8 or 16 *steps*.
- **More motion:** *motion guidance* (0.05 as published) or a lower *motion (fs)* in **Load DynamiCrafter Parts**.
- *Text guidance* is an input of the network; the negative prompt has no effect.
""",
        2,
        "Text to video in 4 steps",
        300,
    )


def batch_of_images(graph: Graph) -> None:
    loaded = load(graph)
    first = picture(graph, "Image 1")
    second = flip(graph, first, "Image 2 (flipped)")
    third = flip(graph, first, "Image 3 (upside down)", "x-axis: vertically")
    images = batch(graph, 1, first, second, third, title="All images")
    texts = prompts(graph, loaded["CLIP"], "the camera zooms out")
    guided = guide(graph, loaded, images, texts, "animate")
    frames = sample(graph, loaded, guided)
    clips = graph.add("RebatchImages", 4, title="One clip each", images=frames, batch_size=16)["IMAGE"]
    save(graph, clips, "batch_of_images", 4)
    graph.note(
        f"""
Three images, three clips of 16 frames, in one run. Images of another size are fitted to the first. **Rebatch Images**
splits the frames into clips (`batch_size` is the number of frames per clip), and **Save Video** writes a file for each.

{embedded_note(ANIMATE)} {FLIP_NOTE}

A batch of N images needs N times the memory. For folders of hundreds of images, queue this workflow once for each.
""",
        1,
        "A batch of images",
        330,
    )


def camera_path(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "")
    guided = guide(graph, loaded, image, texts, "animate")
    led = draw(graph, loaded, guided, image, "", camera="pan 0.4 0")
    save(graph, sample(graph, loaded, led, 4, led["MODEL"], noise=led["NOISE"]), "camera_path", 5)
    graph.note(
        f"""
The prompt is empty, and the camera still moves to the right. **DynamiCrafter Strokes** moves the whole image along its
*camera*, and that crude animation leads the run up to *until*; its NOISE moves with it. The model fills in what comes
into view.

- **Other paths:** `pan -0.4 0` goes to the left, `pan 0 0.3` down, `zoom 1.5` nearer, `turn 20` turns. Combine them
  with commas: `pan 0.2 0, zoom 1.2, from 0.25, to 1`.
- **until:** a smaller value leaves the model more to improve; at 0 the model only sees the moved image, which is mostly
  enough.
- **DynamiCrafter Noise** moves only the noise, which has less effect: the small model follows it in a third of its
  clips.

{embedded_note(ANIMATE)} {IMAGE_NOTE}
""",
        1,
        "A camera path",
        330,
    )


def camera_flight(graph: Graph) -> None:
    loaded = load(graph)
    image = picture(graph)
    texts = prompts(graph, loaded["CLIP"], "the camera pans right")
    views = graph.add("DynamiCrafterCameraPath", 1, image=image, motion="pan right", frames=16)["IMAGE"]
    guided = guide(graph, loaded, image, texts, "animate", guide_video=views)
    save(graph, sample(graph, loaded, guided), "camera_flight", 4)
    graph.note(
        f"""
**DynamiCrafter Camera Path** renders what a moving camera sees, and the video follows it. ViewCrafter was trained to
complete such views; its published prompt is *Rotating view of a scene*.

- **For ViewCrafter 25:** choose the checkpoint and set *frames* to 25 in both nodes.
- **Depth:** connect the depth map of any depth node, and near things move further. Here the picture is a flat plane.
- **Your own path:** choose *the lines below* as the motion and write the path in *lines*.

It runs as it is, on the small `embedded` model, which was not trained for it: what the guide leaves black may stay
black. ViewCrafter is {file_note(FLY)}. {IMAGE_NOTE}
""",
        1,
        "A camera flight",
        300,
    )


EXAMPLES: dict[str, Callable[[Graph], None]] = {
    make.__name__: make
    for make in (
        animate_image,
        dual_guidance_compare,
        interpolate_two_images,
        looping_video,
        native_ksampler_with_lora,
        text_to_video,
        text_to_video_in_4_steps,
        long_video,
        endless_loop,
        film,
        keyframes,
        batch_of_images,
        camera_path,
        camera_flight,
        guidance_over_the_run,
        video_to_video,
        refine_large,
        sketch_inbetween,
        merge_parts,
        motion_brush,
    )
}
