package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// product is what the shop sells; Price is filled in by prices.
type product struct {
	Name  string  `json:"name"`
	Price float64 `json:"price,omitempty"`
}

// reply is what every service answers: its part of the page, and the chain of
// services behind it.
type reply struct {
	Service  string    `json:"service"`
	Version  string    `json:"version"`
	Pod      string    `json:"pod"`
	Millis   float64   `json:"ms"`
	Error    string    `json:"error,omitempty"`
	Currency string    `json:"currency,omitempty"`
	Products []product `json:"products,omitempty"`
	Next     *reply    `json:"next,omitempty"`
}

// netPrices is the price list without tax.
var netPrices = []product{{"espresso beans", 12.90}, {"hand grinder", 89.00}, {"paper filters", 4.50}}

// service is one running service.
type service struct {
	config
	client  *http.Client
	cache   atomic.Pointer[[]product] // catalog: the products it shows
	served  atomic.Int64
	failed  atomic.Int64
	stopped atomic.Bool
}

func newService(c config) *service {
	// A new connection for each question: a kept one would stick to one pod of
	// the next service for as long as it lives.
	transport := &http.Transport{DisableKeepAlives: true}
	return &service{config: c, client: &http.Client{Timeout: c.timeout, Transport: transport}}
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.health)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /chain", s.chain)
	if s.service == "web" {
		mux.HandleFunc("GET /{$}", s.page)
	}
	return mux
}

// health is ready while the service itself works. It does not ask the next
// service: one broken service must not take every other out of rotation.
func (s *service) health(w http.ResponseWriter, _ *http.Request) {
	if s.stopped.Load() {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *service) metrics(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "# TYPE shop_requests_total counter\n")
	fmt.Fprintf(w, "shop_requests_total{service=%q,outcome=\"served\"} %d\n", s.service, s.served.Load())
	fmt.Fprintf(w, "shop_requests_total{service=%q,outcome=\"failed\"} %d\n", s.service, s.failed.Load())
}

// chain answers as JSON: this service's reply with those behind it inside.
func (s *service) chain(w http.ResponseWriter, r *http.Request) {
	answer := s.answer(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(s.status(answer))
	// A client that has gone away is not the shop's failure.
	_ = json.NewEncoder(w).Encode(answer)
}

// page is what customers see.
func (s *service) page(w http.ResponseWriter, r *http.Request) {
	answer := s.answer(r.Context())
	w.WriteHeader(s.status(answer))
	if answer.Error != "" {
		fmt.Fprintf(w, "Sorry, the shop is closed: %s\n", answer.Error)
		return
	}
	for _, p := range answer.Products {
		fmt.Fprintf(w, "%-16s %8.2f %s\n", p.Name, p.Price, answer.Currency)
	}
	for hop := &answer; hop != nil; hop = hop.Next {
		fmt.Fprintf(w, "  %s %s (%s) %.1f ms\n", hop.Service, hop.Version, hop.Pod, hop.Millis)
	}
}

func (s *service) status(answer reply) int {
	if answer.Error != "" {
		s.failed.Add(1)
		return http.StatusBadGateway
	}
	s.served.Add(1)
	return http.StatusOK
}

func (s *service) answer(ctx context.Context) reply {
	start := time.Now()
	answer := reply{Service: s.service, Version: s.version, Pod: s.pod}
	if s.service == "prices" {
		answer.Currency = s.currency
		for _, p := range netPrices {
			gross := math.Round(p.Price*(1+s.taxRate)*100) / 100
			answer.Products = append(answer.Products, product{p.Name, gross})
		}
	} else {
		next, err := s.ask(ctx)
		answer.Next = next
		switch {
		case err != nil:
			answer.Error = err.Error()
		case s.service == "catalog":
			answer.Currency, answer.Products = next.Currency, s.sold(next.Products)
		default:
			answer.Currency, answer.Products = next.Currency, next.Products
		}
		if next != nil { // listed once, by the service that was asked
			next.Currency, next.Products = "", nil
		}
	}
	answer.Millis = float64(time.Since(start).Microseconds()) / 1000
	return answer
}

// ask gets the reply of the next service; with an error, too, when that one
// answered but could not do its part.
func (s *service) ask(ctx context.Context) (*reply, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.upstream+"/chain", nil)
	if err != nil {
		return nil, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	next := &reply{}
	if err := json.NewDecoder(response.Body).Decode(next); err != nil {
		return nil, fmt.Errorf("%s answered %s and no JSON: %w", s.upstream, response.Status, err)
	}
	if next.Error != "" {
		return next, fmt.Errorf("%s: %s", next.Service, next.Error)
	}
	return next, nil
}

// sold are the prices of the products in the catalog's cache.
func (s *service) sold(prices []product) []product {
	cached := s.cache.Load()
	if cached == nil {
		return prices
	}
	return prices[:min(len(prices), len(*cached))]
}

// refreshCache fills the catalog's cache now and then. It trusts the size it
// was given, as such code does: a negative one passes every check at start,
// and panics only once the release is out.
func (s *service) refreshCache(ctx context.Context) {
	tick := time.NewTicker(s.cacheRefresh)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		fresh := make([]product, 0, s.cacheSize)
		for _, p := range netPrices[:min(len(netPrices), s.cacheSize)] {
			fresh = append(fresh, product{Name: p.Name})
		}
		s.cache.Store(&fresh)
	}
}

// serve runs the service until ctx ends, then a little longer: Kubernetes goes
// on sending requests until every node has heard that the pod is leaving.
func serve(ctx context.Context, c config) error {
	s := newService(c)
	listener, err := net.Listen("tcp", c.listen)
	if err != nil {
		return fmt.Errorf("setting SHOP_LISTEN=%q: %w", c.listen, err)
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second}
	if c.service == "catalog" {
		go s.refreshCache(ctx)
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		s.stopped.Store(true)
		log.Printf("%s: stopping, serving for another %s", c.service, c.drain)
		time.Sleep(c.drain)
		last, cancel := context.WithTimeout(context.Background(), c.timeout)
		defer cancel()
		stopped <- server.Shutdown(last)
	}()
	log.Printf("%s %s: listening on %s", c.service, c.version, c.listen)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}
