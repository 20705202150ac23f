"""python -m service. Light on purpose: every spawned worker imports its parent's main module."""

if __name__ == "__main__":
    import sys

    from service.launch import main

    sys.exit(main(sys.argv[1:]))
