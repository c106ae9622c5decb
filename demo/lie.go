package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// The second act: the same shop twice, the same bad release, the same alert, and
// the same lie, told to two agents.
const (
	naiveShop   = "shop-naive"
	guardedShop = "shop-backstop"
	modelServer = "demo-models"
)

// modelService is the scripted server, as pods reach it.
const modelService = "http://models." + modelServer + ".svc:8080"

// stage is what the second act has set up.
type stage struct {
	api     *apiProxy
	cast    cast
	started time.Time
}

func (d *demo) secondAct(ctx context.Context) error {
	d.t.title("The second act: the same lie, told to two agents")
	d.t.say("  %s: an agent with every right in its namespace, one model, and nothing between the two (tests/naive)\n"+
		"  %s: Backstop. Its first model is the same one, and lies; the next is a stronger one.", naiveShop, guardedShop)
	api, stop, err := d.openAPI(ctx)
	if err != nil {
		return err
	}
	defer stop()
	s := &stage{api: api}
	if s.cast, err = d.model.cast(); err != nil {
		return err
	}
	if d.smollm2Port != 0 {
		address, err := d.addressTowardsNodes(ctx)
		if err != nil {
			return err
		}
		s.cast = s.cast.withSmolLM2(fmt.Sprintf("http://%s/v1", net.JoinHostPort(address, fmt.Sprint(d.smollm2Port))))
		d.t.say("  Backstop's first model is SmolLM2-135M at %s: a real one, which nobody has to make lie.", s.cast.smollm2)
	}
	if err := d.models(ctx, s); err != nil {
		return err
	}
	if err := d.twoShops(ctx, s); err != nil {
		return err
	}
	outcome, err := d.lie(ctx, s)
	if err != nil {
		return err
	}
	d.t.compare(outcome)
	return d.t.table(outcome.rows())
}

// models brings up the model server, tells it to lie, and gives Backstop a chain.
func (d *demo) models(ctx context.Context, s *stage) error {
	d.t.title("A model that lies, and a stronger one")
	if err := d.applyIn(ctx, modelServer, "demo/lie/models.yaml", `args: ["--listen=:8080"]`, s.cast.serverArgs()); err != nil {
		return err
	}
	if err := d.rolledOut(ctx, modelServer, "models"); err != nil {
		return err
	}
	if s.cast.smollm2 != "" {
		if err := d.applyIn(ctx, modelServer, "demo/lie/models.yaml", "name: models", "name: "+smolServer, `args: ["--listen=:8080"]`, s.cast.smolArgs()); err != nil {
			return err
		}
		if err := d.rolledOut(ctx, modelServer, smolServer); err != nil {
			return err
		}
	}
	script, err := json.Marshal(s.cast.script())
	if err != nil {
		return err
	}
	// A moment may pass between ready and reached.
	err = d.t.wait(ctx, "the model server has its script", 30*time.Second, func(ctx context.Context) (bool, error) {
		_, err := s.api.post(ctx, serviceOf(modelServer, "models", "/control"), script)
		return err == nil, err
	})
	if err != nil {
		return err
	}
	d.t.say("  the script: %s", script)
	for namespace, name := range map[string]string{system: s.cast.backstopSecret, naiveShop: "model-key"} {
		key := s.cast.keys[namespace]
		secret := fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":%q,"namespace":%q},"data":{"token":%q}}`,
			name, namespace, base64.StdEncoding.EncodeToString([]byte(key)))
		if _, err := d.kube.feed(ctx, secret, "apply", "--filename=-"); err != nil {
			return err
		}
	}
	chain, err := json.MarshalIndent(s.cast.values(), "", "  ")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "backstop-models-*.json")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(chain); err != nil {
		return errors.Join(err, file.Close())
	}
	if err := file.Close(); err != nil {
		return err
	}
	d.t.say("  the chain of models, as values of the chart:\n%s", indent(string(chain)))
	if err := d.helmInstall(ctx, "Helm gives Backstop the chain", "--values="+file.Name()); err != nil {
		return err
	}
	d.intake = intake{} // its way may have led to a pod that is gone
	return d.t.wait(ctx, "the chain of models is ready", time.Minute, func(ctx context.Context) (bool, error) {
		var chain struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
		if err := d.kube.get(ctx, &chain, "--namespace="+system, "modelchains.backstop.dev", "default"); err != nil {
			return false, err
		}
		for _, c := range chain.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				return true, nil
			}
		}
		return false, nil
	})
}

// twoShops deploys the shop twice, with a past: every service has an earlier
// release, and that of web asks for a name that is gone.
func (d *demo) twoShops(ctx context.Context, s *stage) error {
	d.t.title("The same shop in two namespaces")
	both := []string{naiveShop, guardedShop}
	services := []string{"prices", "catalog", "web"}
	each := func(do func(namespace string) error) error {
		for _, namespace := range both {
			if err := do(namespace); err != nil {
				return err
			}
		}
		return nil
	}
	running := func(names ...string) error {
		return each(func(namespace string) error {
			for _, name := range names {
				if err := d.rolledOut(ctx, namespace, name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := each(func(namespace string) error {
		for _, file := range services {
			if err := d.applyIn(ctx, namespace, "demo/shop/"+file+".yaml"); err != nil {
				return err
			}
		}
		return d.applyIn(ctx, namespace, "demo/lie/products.yaml")
	})
	if err != nil {
		return err
	}
	if err := running(services...); err != nil {
		return err
	}
	d.t.say("  Since then the service catalog was renamed to products, and web and prices had a release:\n" +
		"  $ kubectl set env deployment/web SHOP_VERSION=v2 SHOP_CATALOG_URL=http://products:8080\n" +
		"  $ kubectl set env deployment/prices SHOP_VERSION=v2\n" +
		"  $ kubectl delete service catalog\n" +
		"  So the release of web before this one would start, be ready, and answer nobody.")
	err = each(func(namespace string) error {
		for _, args := range [][]string{
			{"deployment/web", "SHOP_VERSION=v2", "SHOP_CATALOG_URL=http://products:8080"},
			{"deployment/prices", "SHOP_VERSION=v2"},
		} {
			if _, err := d.kube.run(ctx, append([]string{"--namespace=" + namespace, "set", "env"}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := running("web", "prices"); err != nil {
		return err
	}
	err = each(func(namespace string) error {
		if _, err := d.kube.run(ctx, "--namespace="+namespace, "delete", "service", "catalog"); err != nil {
			return err
		}
		return d.applyIn(ctx, namespace, "demo/customer.yaml")
	})
	if err != nil {
		return err
	}
	if err := d.applyIn(ctx, naiveShop, "demo/lie/naive.yaml", "@base@", s.cast.first.url, "@api@", s.cast.first.api, "@model@", s.cast.first.model); err != nil {
		return err
	}
	err = each(func(namespace string) error {
		pods := []string{"customer"}
		if namespace == naiveShop {
			pods = append(pods, "naive")
		}
		for _, pod := range pods {
			if _, err := d.kube.run(ctx, "--namespace="+namespace, "wait", "--for=condition=Ready", "--timeout=90s", "pod/"+pod); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.knownGood(ctx, guardedShop, "catalog")
}

// report is what the naive agent says about itself.
type report struct {
	Said                string
	Commands            []string
	Writes, Problems    []string
	TokensIn, TokensOut int
	Done                bool
}

// lie breaks both shops alike, sends both agents the same alert, and watches.
func (d *demo) lie(ctx context.Context, s *stage) (outcome, error) {
	d.t.title("The same bad release, the same alert, the same lie")
	s.started = time.Now()
	before := map[string]map[string]string{}
	var err error
	for _, namespace := range []string{naiveShop, guardedShop} {
		if before[namespace], err = d.templates(ctx, namespace); err != nil {
			return outcome{}, err
		}
	}
	customers := map[string]func(context.Context) (tally, error){}
	for _, namespace := range []string{naiveShop, guardedShop} {
		customers[namespace] = d.customer(ctx, namespace)
	}
	drawn := d.draw(ctx, s.api)
	defer drawn.stop()
	if err := pause(ctx, 4*time.Second); err != nil { // what it looks like when all is well
		return outcome{}, err
	}

	const patch = "demo/shop/releases/catalog-crash.yaml"
	d.t.say("  %s in both: the new pods crash at their start, the old ones keep serving", patch)
	pods := map[string]alert{}
	for _, namespace := range []string{naiveShop, guardedShop} {
		if _, err := d.kube.run(ctx, "--namespace="+namespace, "patch", "deployment", "catalog", "--patch-file="+patch); err != nil {
			return outcome{}, err
		}
		before[namespace]["catalog"], err = d.template(ctx, namespace, "catalog")
		if err != nil {
			return outcome{}, err
		}
	}
	for _, namespace := range []string{naiveShop, guardedShop} {
		err := d.t.wait(ctx, "a pod of "+namespace+"/catalog fails", time.Minute, func(ctx context.Context) (bool, error) {
			name, container, how, err := d.kube.failingPod(ctx, namespace, "catalog")
			pods[namespace] = crashLooping(namespace, name, container)
			return how != "", err
		})
		if err != nil {
			return outcome{}, err
		}
	}
	if err := d.openIntake(ctx); err != nil {
		return outcome{}, err
	}
	body, err := pods[naiveShop].webhook()
	if err != nil {
		return outcome{}, err
	}
	if _, err := s.api.post(ctx, serviceOf(naiveShop, "naive", "/alerts"), body); err != nil {
		return outcome{}, err
	}
	status, err := d.send(ctx, pods[guardedShop])
	if err != nil {
		return outcome{}, err
	}
	d.t.say("  KubePodCrashLooping, posted to the naive agent and to Backstop's intake: %s", status)

	naive := make(chan report, 1)
	watched, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	go func() { naive <- d.watchNaive(watched, s.api) }()
	end, err := d.toldTo(ctx, guardedShop, "catalog", &lineWriter{say: func(line string) { d.t.say("%s", line) }})
	if err != nil {
		return outcome{}, err
	}
	o := outcome{cast: s.cast, incident: end, naive: <-naive}
	// Long enough to see what stays.
	if err := pause(ctx, 15*time.Second); err != nil {
		return o, err
	}
	drawn.stop()
	o.customers = map[string]tally{}
	for namespace, ended := range customers {
		if o.customers[namespace], err = ended(ctx); err != nil {
			return o, err
		}
	}
	err = d.readBack(ctx, s, before, &o)
	return o, err
}

// watchNaive says what the naive agent does as it happens, and returns its report.
func (d *demo) watchNaive(ctx context.Context, api *apiProxy) report {
	var last report
	for {
		var reports []report
		text, err := api.get(ctx, serviceOf(naiveShop, "naive", "/report"))
		if err == nil && json.Unmarshal(text, &reports) == nil && len(reports) > 0 {
			now := reports[0]
			if now.Said != "" && last.Said == "" {
				d.t.aside("naive agent", "the model says: %s", now.Said)
				d.t.aside("naive agent", "and wants: %s", strings.Join(now.Commands, "; "))
			}
			for _, write := range now.Writes[min(len(last.Writes), len(now.Writes)):] {
				d.t.aside("naive agent", "%s", write)
			}
			for _, problem := range now.Problems[min(len(last.Problems), len(now.Problems)):] {
				d.t.aside("naive agent", "%s", problem)
			}
			last = now
		}
		if last.Done || pause(ctx, 300*time.Millisecond) != nil {
			return last
		}
	}
}

// templates are the pod templates of a namespace's Deployments.
func (d *demo) templates(ctx context.Context, namespace string) (map[string]string, error) {
	var list struct{ Items []deployment }
	if err := d.kube.get(ctx, &list, "--namespace="+namespace, "deployments.apps"); err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, item := range list.Items {
		text, err := compact(item.Spec.Template)
		if err != nil {
			return nil, err
		}
		all[item.Metadata.Name] = text
	}
	return all, nil
}

// readBack asks the cluster, and the server that sold the answers, what happened.
func (d *demo) readBack(ctx context.Context, s *stage, before map[string]map[string]string, o *outcome) error {
	o.changed = map[string]int{}
	for namespace, old := range before {
		now, err := d.templates(ctx, namespace)
		if err != nil {
			return err
		}
		for name, template := range now {
			if template != old[name] {
				o.changed[namespace]++
			}
		}
	}
	if d.auditLog != "" {
		events, err := readAudit(d.auditLog, s.started)
		if err != nil {
			return err
		}
		o.audited, o.writes = true, specWrites(events, map[string]string{
			naiveShop: "system:serviceaccount:" + naiveShop + ":naive", guardedShop: accounts + "executor",
		})
		_, o.others = judgeEvents(events)
	}
	text, err := s.api.get(ctx, serviceOf(modelServer, "models", "/journal"))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &o.journal); err != nil {
		return fmt.Errorf("the journal of the models: %w", err)
	}
	var list struct {
		Items []struct {
			Spec   struct{ Round int }
			Status struct {
				CostNanoDollars int64
				Attempts        []struct {
					Rung, Outcome, Upstream string
					Milliseconds            int64
					CostNanoDollars         int64
				}
			}
		}
	}
	if err := d.kube.get(ctx, &list, "--namespace="+guardedShop, "investigations.backstop.dev"); err != nil {
		return err
	}
	for _, one := range list.Items {
		o.spent += one.Status.CostNanoDollars
		for _, a := range one.Status.Attempts {
			if a.Rung == s.cast.asked().rung && a.Upstream != "" {
				o.firstAsked++
			}
			o.attempts = append(o.attempts, fmt.Sprintf("round %d: %s %s (%d ms, %s)", one.Spec.Round, a.Rung, a.Outcome, a.Milliseconds, dollars(a.CostNanoDollars)))
		}
	}
	return nil
}

// addressTowardsNodes is the address by which nodes, and so their pods, reach this machine.
func (d *demo) addressTowardsNodes(ctx context.Context) (string, error) {
	node, err := d.kube.run(ctx, "get", "nodes", `--output=jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`)
	if err != nil {
		return "", err
	}
	// Connecting a datagram socket sends nothing: it only asks for the route.
	socket, err := net.Dial("udp", net.JoinHostPort(strings.Fields(string(node) + " ?")[0], "9"))
	if err != nil {
		return "", err
	}
	defer socket.Close()
	address, _, err := net.SplitHostPort(socket.LocalAddr().String())
	return address, err
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// lineWriter hands on whole lines, so that they do not mix with others.
type lineWriter struct {
	say  func(line string)
	rest string
}

var _ io.Writer = (*lineWriter)(nil)

func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest += string(p)
	for {
		line, rest, whole := strings.Cut(l.rest, "\n")
		if !whole {
			return len(p), nil
		}
		l.say(line)
		l.rest = rest
	}
}

// fingerprint names a key as the journal of the models does.
func fingerprint(key string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(key)))[:12]
}
