import json
import subprocess
import sys
import unittest
from pathlib import Path


@unittest.skipUnless("slicer_standin" in sys.modules, "Slicer draws views of its own")
class FindingsRenderingTest(unittest.TestCase):
    def test_the_outline_in_a_slice_view_follows_the_threshold(self) -> None:
        script = Path(__file__).with_name("drawn_outline.py")
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
        if done.returncode < 0:
            self.skipTest(f"drawing without a window (EGL) ended with signal {-done.returncode}")
        self.assertEqual(done.returncode, 0, done.stderr)
        seen = json.loads(done.stdout.splitlines()[-1])
        if seen is None:
            self.skipTest("needs OpenGL without a window (EGL)")
        shown, nearly_hidden, shown_again = seen["drawn"]
        self.assertGreater(shown["pixels"], 50)
        left, right, bottom, top = shown["bounds"]
        x, y = seen["inside"]
        self.assertTrue(left < x < right and bottom < y < top)
        self.assertEqual(nearly_hidden["pixels"], 0)  # all but one voxel, which lies in another slice
        self.assertEqual(shown_again, shown)


if __name__ == "__main__":
    unittest.main()
