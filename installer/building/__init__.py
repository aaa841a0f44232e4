"""Makes installers: the parts of `installer/build.py`. Only the standard library, and Python 3.11 or newer.

`stages` runs a target's stages in order and knows what can be skipped; `commands` runs other programs; `events` tells
the person or the window; `tools` and `downloads` say and fetch what is missing; `chroot`, `screens` and `smoke` prove
an installer by installing it. A target (`ubuntu`, `appimage`, `windows`, `docker`) is a module with two functions:

    needs(build, test) -> list[Need]      what this machine lacks for it
    stages(build, test) -> list[Stage]    what is done, in order; with `test` the proof as well
"""
