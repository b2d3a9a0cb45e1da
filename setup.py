"""Builds the C++/CUDA extension with CMake. Everything else is in pyproject.toml."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Let CMake write the extension module where setuptools expects it."""

    def build_extension(self, ext: Extension) -> None:
        output_dir = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        # --fresh: an isolated build leaves paths of its deleted environment in the cache.
        configure = [
            *("cmake", "--fresh", "-S", str(ROOT), "-B", self.build_temp, "-G", "Ninja"),
            "-DCMAKE_BUILD_TYPE=Release",
            "-DCMAKE_UNITY_BUILD=ON",  # eight files at a time: half of the compiler's time goes into headers
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DFLAGDIT_PYTHON_OUTPUT_DIR={output_dir}",
            *shlex.split(os.environ.get("CMAKE_ARGS", "")),
        ]
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", self.build_temp, "--target", "_ext"], check=True)


setup(
    ext_modules=[Extension("flagdit.cpp_ext._ext", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
