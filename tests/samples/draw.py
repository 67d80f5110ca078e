#!/usr/bin/env python3
"""Renders the sample pictures that `make demo` captions and the tests read.

    python3 tests/samples/draw.py [--out tests/samples] [--only part-of-name]

Needs numpy and Pillow. Every picture is computed from formulas and seeded
noise, so none of them carries anybody else's rights.
"""

import argparse
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
# Leave no compiled files in the checkout.
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

from render import (finish, scenes_indoor, scenes_meadow, scenes_mountain,  # noqa: E402
                    scenes_street, scenes_water)

# JPEGs that show one scene each: file name, scene, options of save_jpeg.
SCENES = {
    "beach_at_sunset.jpg": (scenes_water.beach, {}),
    "sailing_boat_on_the_sea.jpg": (scenes_water.sailing_boat, {}),
    # One progressive file, because decoders treat those apart.
    "snowy_mountain_and_forest.jpg": (scenes_mountain.mountains, {"progressive": True}),
    "football_on_the_grass.jpg": (scenes_meadow.football, {}),
    "brown_dog_on_the_grass.jpg": (scenes_meadow.dog, {}),
    "car_on_a_country_road.jpg": (scenes_street.road, {}),
    "zebra_crossing_and_traffic_light.jpg": (scenes_street.crossing, {}),
    "cup_apple_and_banana_on_a_table.jpg": (scenes_indoor.breakfast, {}),
    "wooden_staircase.jpg": (scenes_indoor.staircase, {}),
}

# Files made from another scene's pixels: name, source, how to save it.
VARIANTS = {
    "sailing_boat_thumbnail.png": (
        "sailing_boat_on_the_sea.jpg",
        lambda img, path: finish.save_png(finish.shrink(img, 200), path, colours=128),
    ),
    "too_dark_staircase.jpg": (
        "wooden_staircase.jpg",
        lambda img, path: finish.save_jpeg(finish.darken(img, 101), path),
    ),
    "blurred_football.jpg": (
        "football_on_the_grass.jpg",
        lambda img, path: finish.save_jpeg(finish.blur(img, 11), path),
    ),
}

DOOR = "door_in_a_corridor.png"


def main():
    args = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    args.add_argument("--out", type=pathlib.Path, default=HERE)
    args.add_argument("--only", default="", help="draw only files whose name contains this")
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    drawn = {}

    def picture(name):
        if name not in drawn:
            drawn[name] = SCENES[name][0]()
        return drawn[name]

    def report(name, save):
        if args.only not in name:
            return
        start = time.monotonic()
        size, kind = save(args.out / name)
        print(f"{name}: {kind}, {size} bytes, {time.monotonic() - start:.1f} s", flush=True)

    for name, (_, options) in SCENES.items():
        report(name, lambda path: finish.save_jpeg(picture(name), path, **options))
    for name, (source, save) in VARIANTS.items():
        report(name, lambda path: save(picture(source), path))
    # PNG keeps every grain, so this one is drawn clean and smaller.
    report(DOOR, lambda path: finish.save_png(scenes_indoor.door(240), path))


if __name__ == "__main__":
    main()
