"""Programs that tests start hear the signals of a terminal."""

import signal

# What shells let programs in the background ignore, and `nohup`; whatever those start inherits it.
OF_TERMINALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def hear_terminals() -> None:
    """Let this process and all that it starts end by these signals, however it was started itself."""
    for number in OF_TERMINALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            is_interrupt = number is signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
