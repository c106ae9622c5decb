// Command demo breaks a small shop on a real Kubernetes cluster and shows what
// Backstop does about it: one repair, and three cases in which the right answer
// is not to act. In a second act a model tells the same lie to Backstop and to an
// agent that does what a model says. Further acts, which are played when they are
// named, show one action each. Each act ends with a table, and the demo with
// exit code 0 only if every expectation held.
//
// `make demo` builds and runs it. It uses kubectl and helm as people do, so
// that every step can be repeated by hand.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what make passes.
type options struct {
	make          string // empty: nothing is built, started or loaded
	kubectl       string
	helm          string
	backstop      string
	auditLog      string
	image         string
	operatorImage string
	shopImage     string
	modelsImage   string
	naiveImage    string
	act           string // empty: the first and the second
	model         realModel
	smollm2Port   int
	throwaway     bool
	monitoring    bool
	full          bool
}

func main() {
	var o options
	flag.StringVar(&o.make, "make", "", "make, to build and start what is needed (empty: everything is there)")
	flag.StringVar(&o.kubectl, "kubectl", "kubectl", "kubectl, with its first arguments")
	flag.StringVar(&o.helm, "helm", "helm", "helm, with its first arguments")
	flag.StringVar(&o.backstop, "backstop", "target/release/backstop", "the operator's program, for its timeline")
	flag.StringVar(&o.auditLog, "audit-log", "", "the API server's audit log (empty: it cannot be read here)")
	flag.StringVar(&o.image, "image", ".build/backstop.tar", "the operator's image; when it changed, the operator is restarted")
	flag.StringVar(&o.operatorImage, "operator-image", chartImage, "name and tag of the operator's image")
	flag.StringVar(&o.shopImage, "shop-image", manifestImage, "name and tag of the shop's image")
	flag.StringVar(&o.modelsImage, "models-image", "backstop.local/models:dev", "name and tag of the scripted model server's image")
	flag.StringVar(&o.naiveImage, "naive-image", "backstop.local/naive:dev", "name and tag of the naive agent's image")
	flag.StringVar(&o.act, "act", "", "1: break and repair; 2: the lie, side by side; restart: processes that hang; all: every act (empty: 1 and 2)")
	flag.StringVar(&o.model.url, "model-url", "", "base URL of a real model for the second act (empty: the scripted one)")
	flag.StringVar(&o.model.api, "model-api", "", "its API: AnthropicMessages, OpenAiChat, OpenAiResponses or BedrockConverse")
	flag.StringVar(&o.model.name, "model-name", "", "its name")
	flag.StringVar(&o.model.keyFile, "model-key-file", "", "file with its key")
	flag.StringVar(&o.model.prices, "model-prices", "", "its prices in US dollars per million tokens, as INPUT/OUTPUT, such as 3.00/15.00")
	flag.IntVar(&o.smollm2Port, "smollm2-port", 0, "port on this machine of a server of SmolLM2, which Backstop asks first (0: the scripted model lies to it)")
	flag.BoolVar(&o.throwaway, "throwaway", false, "the cluster was made for this: a Backstop that is installed in it is taken over")
	flag.BoolVar(&o.monitoring, "monitoring", false, "alerts come from Prometheus and Alertmanager in the cluster")
	flag.BoolVar(&o.full, "full", false, "show every fact and every verdict, not only what fits a screen")
	remove := flag.Bool("clean", false, "uninstall the Backstop that the demo installed, and delete the namespaces that it made")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := newTerminal(os.Stdout)
	d := &demo{options: o, t: t, kube: kube{command: o.kubectl}}
	run := d.run
	if *remove {
		run = d.clean
	}
	if err := run(ctx); err != nil {
		t.say("")
		if errors.Is(err, errExpectation) {
			t.say("demo: %v", err)
		} else {
			fmt.Fprintln(os.Stderr, "demo:", err)
		}
		os.Exit(1)
	}
}

// errExpectation is for a demo that ran to its end and did not show what it should.
var errExpectation = errors.New("not every expectation held")

// demo is one run.
type demo struct {
	options
	t       *terminal
	kube    kube
	started time.Time
	intake  intake
}

// Namespaces of the demo, one per case, so that each has its own Grant,
// budget and incident; and Backstop's release and namespace.
const (
	release   = "backstop"
	system    = "backstop-system"
	shop      = "shop"
	newcomer  = "shop-first-release"
	argo      = "shop-argocd"
	configMap = "shop-config"
	hanging   = "shop-restart"
)

// Acts, as they are named on the command line.
const (
	breakAndRepair = "1"
	theLie         = "2"
	restart        = "restart"
	everyAct       = "all"
)

var acts = []string{breakAndRepair, theLie, restart, everyAct}

// enrolled are those in which Backstop may write; in the others it has no right.
var (
	enrolled   = []string{shop, newcomer, argo, configMap, hanging, guardedShop}
	namespaces = append(slices.Clone(enrolled), naiveShop, modelServer)
)

// plays says whether an act is played.
func (o options) plays(act string) bool {
	return o.act == act || o.act == everyAct || o.act == "" && act != restart
}

// check is asked before anything is built.
func (o options) check() error {
	if o.act != "" && !slices.Contains(acts, o.act) {
		return fmt.Errorf("ACT=%s: want one of %s, or nothing for 1 and 2", o.act, strings.Join(acts, ", "))
	}
	if o.monitoring && o.plays(restart) {
		return errors.New("MONITORING=1 is not for ACT=restart: a real Prometheus sends its alert before the new process has shown anything; leave it out")
	}
	return o.model.check()
}

func (d *demo) run(ctx context.Context) error {
	if err := d.check(); err != nil {
		return err
	}
	if d.make != "" {
		if err := d.build(ctx); err != nil {
			return err
		}
	}
	if err := d.install(ctx); err != nil {
		return err
	}
	var first error
	for _, one := range []struct {
		name string
		play func(context.Context) error
	}{{breakAndRepair, d.firstAct}, {theLie, d.secondAct}, {restart, d.restartAct}} {
		if !d.plays(one.name) {
			continue
		}
		// That an expectation did not hold ends the act, not the demo.
		err := one.play(ctx)
		if err != nil && !errors.Is(err, errExpectation) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// firstAct breaks the shop in four ways: one can be repaired.
func (d *demo) firstAct(ctx context.Context) error {
	if err := d.deploy(ctx); err != nil {
		return err
	}
	d.started = time.Now()
	var table []row
	for _, show := range []func(context.Context) ([]row, error){d.badRelease, d.onlyOneRevision, d.ownedByArgoCD, d.configMapEdited} {
		rows, err := show(ctx)
		if err != nil {
			return err
		}
		table = append(table, rows...)
	}
	witnessed, err := d.witness(shop)
	if err != nil {
		return err
	}
	table = append(table, witnessed...)
	return d.t.table(table)
}

// build makes and starts everything that the demo needs, with make.
func (d *demo) build(ctx context.Context) error {
	if !d.throwaway && (d.operatorImage == chartImage || d.shopImage == manifestImage) {
		d.t.say("Images are not loaded onto the nodes of this cluster. Unless they have %s, %s,\n%s and %s, use a registry of yours: OPERATOR_IMAGE, SHOP_IMAGE,\nMODELS_IMAGE and NAIVE_IMAGE, see docs/install.md.", d.operatorImage, d.shopImage, d.modelsImage, d.naiveImage)
	}
	up := []string{"cluster-up"}
	if d.monitoring {
		up = append(up, "LAB_UP_FLAGS=--monitoring")
	}
	for _, step := range []struct {
		what   string
		target []string
	}{
		{"Building the operator, the shop, the models and what the cluster needs (Rust and Go; about 10 minutes on 2 cores the first time)", []string{"demo-build"}},
		{"Starting the cluster", up},
		{"Loading the images onto the nodes", []string{"cluster-load"}},
		{"Looking for Helm and kubectl", []string{"demo-tools"}},
	} {
		if err := d.t.long(ctx, step.what, d.make, append([]string{"--no-print-directory"}, step.target...)...); err != nil {
			return err
		}
	}
	return nil
}
