"""python -m service. Light on purpose: every spawned worker imports its parent's main module."""

if __name__ == "__main__":
    import sys

    if sys.argv[1:2] == ["plan"]:
        from service.plan.command import main

        sys.exit(main(sys.argv[2:]))

    from service.main import main

    sys.exit(main(sys.argv[1:]))
