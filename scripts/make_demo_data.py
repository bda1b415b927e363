"""Write the embedded video data set under data/demo of this source tree, wherever it is called from."""

from pathlib import Path

from mvit_video.data.digits import main

if __name__ == "__main__":
    main(Path(__file__).resolve().parents[1] / "data" / "demo")
