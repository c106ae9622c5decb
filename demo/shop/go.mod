module backstop.dev/shop

go 1.24.0
