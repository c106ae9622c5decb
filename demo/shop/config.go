package main

import (
	"fmt"
	"net/url"
	"strconv"
	"time"
)

// config is one service's settings, all from the environment.
type config struct {
	service  string
	version  string // SHOP_VERSION, shown in the call chain
	pod      string // HOSTNAME, which Kubernetes sets to the pod's name
	listen   string // SHOP_LISTEN
	upstream string // SHOP_CATALOG_URL (web) or SHOP_PRICES_URL (catalog)

	timeout      time.Duration // SHOP_TIMEOUT: patience with the next service
	drain        time.Duration // SHOP_DRAIN: how long to keep serving after SIGTERM
	cacheSize    int           // SHOP_CACHE_SIZE (catalog)
	cacheRefresh time.Duration // SHOP_CACHE_REFRESH (catalog)
	currency     string        // SHOP_CURRENCY (prices)
	taxRate      float64       // SHOP_TAX_RATE (prices): 0.19 is 19 %
}

// readConfig fails on the first malformed setting: a service that started with
// a wrong price would do more harm than one that does not start.
func readConfig(service string, getenv func(string) string) (config, error) {
	s := settings{getenv: getenv}
	c := config{
		service: service,
		version: s.text("SHOP_VERSION", "dev"),
		pod:     s.text("HOSTNAME", "-"),
		listen:  s.text("SHOP_LISTEN", ":8080"),
		timeout: s.duration("SHOP_TIMEOUT", 2*time.Second),
		drain:   s.duration("SHOP_DRAIN", 3*time.Second),
	}
	switch service {
	case "web":
		c.upstream = s.url("SHOP_CATALOG_URL", "http://catalog:8080")
	case "catalog":
		c.upstream = s.url("SHOP_PRICES_URL", "http://prices:8080")
		c.cacheSize = s.integer("SHOP_CACHE_SIZE", 100)
		c.cacheRefresh = s.duration("SHOP_CACHE_REFRESH", 2*time.Second)
	case "prices":
		c.currency = s.text("SHOP_CURRENCY", "EUR")
		c.taxRate = s.share("SHOP_TAX_RATE", 0.19)
	}
	return c, s.err
}

// settings reads typed values and keeps the first error.
type settings struct {
	getenv func(string) string
	err    error
}

func (s *settings) text(name, otherwise string) string {
	if value := s.getenv(name); value != "" {
		return value
	}
	return otherwise
}

func (s *settings) duration(name string, otherwise time.Duration) time.Duration {
	return parse(s, name, otherwise, "a duration such as 500ms or 2s", func(value string) (time.Duration, bool) {
		d, err := time.ParseDuration(value)
		return d, err == nil && d > 0
	})
}

func (s *settings) integer(name string, otherwise int) int {
	return parse(s, name, otherwise, "a whole number", func(value string) (int, bool) {
		n, err := strconv.Atoi(value)
		return n, err == nil
	})
}

func (s *settings) share(name string, otherwise float64) float64 {
	return parse(s, name, otherwise, "a number from 0 to 1 such as 0.19", func(value string) (float64, bool) {
		f, err := strconv.ParseFloat(value, 64)
		return f, err == nil && f >= 0 && f <= 1
	})
}

func (s *settings) url(name, otherwise string) string {
	return parse(s, name, otherwise, "a URL such as http://prices:8080", func(value string) (string, bool) {
		u, err := url.Parse(value)
		return value, err == nil && u.Scheme == "http" && u.Host != ""
	})
}

func parse[T any](s *settings, name string, otherwise T, want string, read func(string) (T, bool)) T {
	value := s.getenv(name)
	if value == "" {
		return otherwise
	}
	parsed, ok := read(value)
	if !ok && s.err == nil {
		s.err = fmt.Errorf("setting %s=%q is malformed: want %s", name, value, want)
	}
	return parsed
}
