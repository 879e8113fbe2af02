module goldens

go 1.24
