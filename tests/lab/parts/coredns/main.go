// Command coredns is the lab's cluster DNS: CoreDNS with only the plugins that
// answer Service names. Leaving out the others (route53, etcd, grpc, ...) keeps
// the build short, and without `forward` a name outside the cluster fails at
// once, so no test can come to depend on the outside world.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

func main() {
	// The order in which plugins see a query; a directive missing here is a
	// syntax error in the Corefile.
	dnsserver.Directives = []string{"bind", "reload", "health", "ready", "prometheus", "errors", "log", "cache", "kubernetes"}
	coremain.Run()
}
