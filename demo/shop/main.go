// Command shop is a small web shop of three services that really call each
// other: web → catalog → prices. It exists to be broken: every setting is
// checked the way real services check theirs, so a bad release fails like one.
//
//	shop web|catalog|prices    run one service (settings: see config.go)
//	shop probe [flags] URL     request URL again and again, and count
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = "usage: shop web|catalog|prices, or shop probe [flags] URL"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fatal:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("no service named; %s", usage)
	}
	switch args[0] {
	case "web", "catalog", "prices":
		config, err := readConfig(args[0], os.Getenv)
		if err != nil {
			return err
		}
		return serve(ctx, config)
	case "probe":
		return probe(ctx, args[1:], os.Stdout)
	default:
		return fmt.Errorf("no service is called %q; %s", args[0], usage)
	}
}
